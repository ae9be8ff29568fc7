// The visits of nodes as bars, with a lane for each branch. One canvas of the size of the view draws all of them.

const LANE = 26;
const [BAR, THIN] = [16, 4];
const SIGN = 13; // width reserved for the sign of a status

class Timeline {
  constructor(model, go) {
    this.model = model;
    this.go = go;
    this.element = byId("lanes");
    this.canvas = byId("bars");
    this.cursor = byId("cursor");
    this.hint = byId("hint");
    this.lanes = orderLanes(model);
    this.end = Math.max(1, ...model.steps.slice(-1).map((step) => step.at));
    this.colour = readColours();
    byId("lane-room").style.height = `${this.lanes.length * LANE}px`;
    this.goBy(isLegible(model, this.end));
    byId("by-time").addEventListener("click", () => this.goBy(true));
    byId("by-step").addEventListener("click", () => this.goBy(false));
    this.element.addEventListener("scroll", () => this.draw(), { passive: true });
    this.element.addEventListener("click", (event) => this.onClick(event));
    this.element.addEventListener("pointermove", (event) => this.onMove(event));
    this.element.addEventListener("pointerleave", () => this.hint.toggleAttribute("hidden", true));
    new ResizeObserver(() => { this.draw(); this.show(this.state); }).observe(this.element);
  }

  goBy(isByTime) {
    this.isByTime = isByTime;
    byId("by-time").setAttribute("aria-pressed", String(isByTime));
    byId("by-step").setAttribute("aria-pressed", String(!isByTime));
    this.draw();
    this.show(this.state);
  }

  get left() {
    return this.lanes.length === 1 ? 12 : Math.min(170, this.element.clientWidth * 0.28);
  }

  // Returns the horizontal position of a step, from its time and its number.
  x(at, seq) {
    const last = this.model.steps.length;
    const part = this.isByTime ? Math.max(0, at) / this.end : last < 2 ? 1 : (seq - 1) / (last - 1);
    return this.left + Math.max(0, Math.min(1, part)) * (this.element.clientWidth - this.left - 12);
  }

  // Returns the left edge and the width of a bar.
  measureBar(span) {
    const begun = this.x(span.from, span.begun);
    const ended = typeof span.ended === "number" ? this.x(span.to, span.ended) : this.x(this.end, this.model.steps.length);
    return [begun, Math.max(2, ended - begun)];
  }

  // Brings the lane of a step into view.
  follow(step) {
    const span = this.model.findVisit(step);
    if (!span) return;
    const top = this.lanes.findIndex((lane) => lane.id === span.lane) * LANE;
    const { scrollTop, clientHeight } = this.element;
    if (top < scrollTop || top + LANE > scrollTop + clientHeight) this.element.scrollTop = top - clientHeight / 2;
  }

  show(state) {
    if (!state) return;
    this.state = state;
    this.cursor.style.transform = `translate(${this.x(state.at, state.seq).toFixed(1)}px, ${this.element.scrollTop}px)`;
  }

  recolour() {
    this.colour = readColours();
    this.draw();
  }

  draw() {
    const { clientWidth: width, clientHeight: height, scrollTop } = this.element;
    if (!width) return;
    const pen = sharpen(this.canvas, width, height);
    this.canvas.style.transform = `translateY(${scrollTop}px)`;
    this.show(this.state);
    pen.font = getComputedStyle(this.element).font;
    pen.textBaseline = "middle";
    const first = Math.floor(scrollTop / LANE);
    const last = Math.min(this.lanes.length, Math.ceil((scrollTop + height) / LANE));
    for (let number = first; number < last; number += 1) this.drawLane(pen, number, number * LANE - scrollTop, width);
  }

  drawLane(pen, number, top, width) {
    const lane = this.lanes[number];
    pen.fillStyle = this.colour("rim");
    pen.globalAlpha = 0.45;
    pen.fillRect(0, top + LANE - 1, width, 1);
    pen.globalAlpha = 1;
    if (this.lanes.length > 1) {
      const indent = 10 + Math.min(lane.depth, 5) * 10;
      pen.fillStyle = this.colour(lane.depth ? "soft" : "ink");
      pen.fillText(fitText(pen, lane.label, this.left - indent - 10), indent, top + LANE / 2);
    }
    for (const span of lane.spans) this.drawBar(pen, span, top);
  }

  drawBar(pen, span, top) {
    const [x, width] = this.measureBar(span);
    const status = findStatus(span, this.model);
    const colour = this.colour(status);
    const sign = `${this.model.signs[status]}\ufe0e`; // as text, not as an emoji
    pen.fillStyle = colour;
    if (span.opens) { // a frame or a fan-out: its inner visits are in the lanes below
      const room = width < 34 ? 0 : SIGN;
      if (room) pen.fillText(sign, x, top + LANE / 2);
      pen.fillRect(x + room, top + (LANE - THIN) / 2, width - room, THIN);
      return;
    }
    if (width < 4) { // too narrow for an outline
      pen.fillRect(x, top + (LANE - BAR) / 2, Math.max(1, width - 0.5), BAR);
      return;
    }
    pen.beginPath();
    pen.roundRect(x, top + (LANE - BAR) / 2, width, BAR, Math.min(4, width / 2));
    pen.fillStyle = this.colour(span.status === "stopped" ? "dropped-back" : `${span.status}-back`);
    pen.fill();
    pen.strokeStyle = colour;
    pen.lineWidth = 1;
    pen.stroke();
    if (width < SIGN + 2) return;
    const label = width > 34 + SIGN ? fitText(pen, this.model.label(span), width - 12 - SIGN) : "";
    pen.fillStyle = colour;
    pen.fillText(sign, label ? x + 6 : x + (width - pen.measureText(sign).width) / 2, top + LANE / 2);
    pen.fillText(label, x + 6 + SIGN, top + LANE / 2);
  }

  // Returns the visit at the pointer: the shortest one if there are several.
  findVisitAt(event) {
    const room = this.element.getBoundingClientRect();
    const lane = this.lanes[Math.floor((event.clientY - room.top + this.element.scrollTop) / LANE)];
    const at = event.clientX - room.left;
    let best = null;
    for (const span of lane?.spans ?? []) {
      const [x, width] = this.measureBar(span);
      if (at >= x - 3 && at <= x + width + 3 && (!best || width < best.width)) best = { span, width };
    }
    return best?.span ?? null;
  }

  // Goes to the step that ended a visit, because that step has its values; for a frame, to the step that opened it.
  onClick(event) {
    const span = this.findVisitAt(event);
    if (span) this.go(findStep(span, this.model));
    else this.go(this.findNearestStep(event.clientX - this.element.getBoundingClientRect().left));
  }

  findNearestStep(x) {
    const { steps } = this.model;
    let [low, high] = [0, steps.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.x(steps[middle].at, steps[middle].seq) <= x) low = middle;
      else high = middle - 1;
    }
    return low + 1;
  }

  onMove(event) {
    const span = this.findVisitAt(event);
    this.hint.toggleAttribute("hidden", span === null);
    if (!span) return;
    setText(this.hint, `${this.model.label(span)} \u00b7 ${describeVisit(span, this.end)}`);
    const room = this.element.parentElement.getBoundingClientRect();
    const x = Math.min(event.clientX - room.left + 12, room.width - this.hint.offsetWidth - 8);
    this.hint.style.transform = `translate(${Math.max(4, x)}px, ${event.clientY - room.top - 34}px)`;
  }
}

// Returns the status of a visit. An open frame or fan-out has the status of its node, which depends on the inner visits.
function findStatus(span, model) {
  if (!span.opens || typeof span.ended === "number") return span.status;
  return model.state.marks.get(span.node)?.status ?? span.status;
}

// Describes a visit in one line.
function describeVisit(span, end) {
  const to = typeof span.to === "number" ? span.to : end;
  const attempts = span.attempts > 1 ? [`${span.attempts} attempts`] : [];
  return [span.status, formatDuration(Math.max(0, to - span.from)), ...attempts].join(" \u00b7 ");
}

// Returns the number of the step to show for a visit.
function findStep(span, model) {
  const seq = span.opens || typeof span.ended !== "number" ? span.begun : span.ended;
  return Math.max(1, Math.min(model.steps.length, seq));
}

// Returns the lanes in nested order: first the run itself, then by the node that opened them, and by branch.
function orderLanes(model) {
  const inside = new Map();
  for (const lane of model.lanes) {
    if (!inside.has(lane.parent)) inside.set(lane.parent, []);
    inside.get(lane.parent).push(lane);
  }
  const order = new Map([...model.boxes.keys()].map((id, number) => [id, number]));
  const found = [];
  const visit = (lane, depth) => {
    const isFrame = model.boxes.get(lane.node)?.kind === "frame";
    const label = lane.parent === null ? "run" : `${model.label(lane)}${isFrame ? "" : ` [${lane.branch}]`}`;
    found.push({ id: lane.id, depth, label, spans: [] });
    const next = inside.get(lane.id) ?? [];
    next.sort((a, b) => (order.get(a.node) ?? -1) - (order.get(b.node) ?? -1) || a.branch - b.branch);
    next.forEach((child) => visit(child, depth + 1));
  };
  visit(model.lanes[0], 0);
  const lanes = new Map(found.map((lane) => [lane.id, lane]));
  // Frames and fan-outs are drawn first, so that the bar of a join is above that of its fan-out.
  for (const span of model.spans) if (span.opens) lanes.get(span.lane).spans.push(span);
  for (const span of model.spans) if (!span.opens) lanes.get(span.lane).spans.push(span);
  return found;
}

// Returns whether bars by time are wide enough to see. In a run that waited for days, they would be thin lines.
function isLegible(model, end) {
  const long = model.spans.filter((span) => !span.opens && (span.to ?? end) - span.from >= end / 200);
  const all = model.spans.filter((span) => !span.opens);
  return long.length * 2 >= all.length;
}

function fitText(pen, text, width) {
  if (pen.measureText(text).width <= width) return text;
  let most = Math.min(text.length, Math.floor(width / 4));
  while (most > 1 && pen.measureText(`${text.slice(0, most)}\u2026`).width > width) most -= 1;
  return most > 1 ? `${text.slice(0, most)}\u2026` : "";
}
