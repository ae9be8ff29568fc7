// The drawing. The page contains one layout for each depth; here only classes and texts change.

const [SMALLEST, LARGEST, READABLE] = [0.1, 4, 0.6];

class GraphView {
  // `choose(id)` is called with the node that was clicked or selected by keys; `null` for none.
  constructor(model, depth, choose) {
    this.model = model;
    this.choose = choose;
    this.stage = byId("stage");
    this.drawings = [...this.stage.querySelectorAll("svg.graph")].map((svg) => this.prepare(svg));
    this.labels = new Map(model.head.lines.map((line) => [line.id, line.label]));
    this.state = null;
    this.at = null; // the node of the step on display
    this.chosen = null;
    this.found = null; // the nodes that match the search, `null` without a search
    this.marked = {}; // the element that has a class, by class
    this.isFitted = true;
    this.openTo(depth);
    this.listen();
  }

  get drawing() {
    return this.drawings[this.depth];
  }

  // Finds all elements of a drawing that can change.
  prepare(svg) {
    const cards = new Map();
    const wires = new Map();
    if (this.model.hasRun) svg.querySelector(".drawing").classList.add("run");
    for (const element of svg.querySelectorAll("[data-id]")) {
      const { id } = element.dataset;
      if (element.classList.contains("wire")) {
        wires.set(id, this.prepareWire(element));
        continue;
      }
      const badge = element.querySelector(":scope > .badge");
      badge?.removeAttribute("textLength"); // the layout reserved the width of the widest badge
      badge?.removeAttribute("lengthAdjust");
      if (badge) badge.textContent = "";
      cards.set(id, { element, badge, sign: element.querySelector(":scope > .sign"), mark: undefined, at: undefined });
      if (element.classList.contains("node")) {
        element.id = `${svg.dataset.depth}-${id}`;
        element.setAttribute("role", "button");
        element.setAttribute("aria-label", element.querySelector("title").textContent);
      }
    }
    return { svg, cards, wires, width: svg.viewBox.baseVal.width, height: svg.viewBox.baseVal.height };
  }

  prepareWire(element) {
    const route = element.querySelector(".route");
    if (route) { // the text changes: keep it in the middle of its plate
      const plate = element.querySelector(".plate");
      route.removeAttribute("textLength");
      route.removeAttribute("lengthAdjust");
      route.setAttribute("text-anchor", "middle");
      route.setAttribute("x", String(plate.x.baseVal.value + plate.width.baseVal.value / 2));
    }
    return { element, route, count: undefined };
  }

  // Shows the drawing with `depth` levels of sub-flows open.
  openTo(depth) {
    this.depth = Math.max(0, Math.min(this.drawings.length - 1, depth));
    this.drawings.forEach(({ svg }, number) => svg.toggleAttribute("hidden", number !== this.depth));
    if (this.isFitted) this.fit();
    else this.zoomTo(this.scale);
    this.show(this.state, this.at);
    this.mark();
    this.markFound();
  }

  // Shows a state of the run. Elements that did not change are not touched.
  show(state, at) {
    const { cards, wires } = this.drawing;
    for (const [id, card] of cards) {
      const mark = state?.marks.get(id);
      const isGrowing = mark?.clocks && card.at !== state.at;
      if (card.mark === mark && !isGrowing) continue;
      if (card.mark?.status !== mark?.status) {
        if (card.mark) card.element.classList.remove(`s-${card.mark.status}`);
        if (mark) card.element.classList.add(`s-${mark.status}`);
      }
      if (card.sign) setText(card.sign, this.model.signs[mark?.status ?? ""]);
      if (card.badge) setText(card.badge, mark ? formatBadge(mark, state.at) : "");
      card.mark = mark;
      card.at = state?.at;
    }
    for (const [id, wire] of wires) {
      const count = state?.taken.get(id) ?? 0;
      if (wire.count === count) continue;
      wire.count = count;
      wire.element.classList.toggle("taken", count > 0);
      if (!wire.route) continue;
      const words = [this.labels.get(id), count > 1 ? `\u00d7${count}` : ""].filter(Boolean).join(" ");
      setText(wire.route, words);
      wire.element.classList.toggle("bare", words === "");
    }
    this.state = state;
    this.at = at;
  }

  // Returns the box that shows a node at this depth: its own, or the folded frame that contains it.
  findShownBox(id) {
    for (let box = this.model.boxes.get(id); box; box = this.model.boxes.get(box.frame)) {
      if (this.drawing.cards.has(box.id)) return box.id;
    }
    return null;
  }

  // Marks the node of the step, and the selected node.
  mark() {
    for (const [name, id] of [["current", this.at], ["chosen", this.chosen]]) {
      const element = this.drawing.cards.get(this.findShownBox(id))?.element;
      if (this.marked[name] === element) continue;
      this.marked[name]?.classList.remove(name);
      element?.classList.add(name);
      this.marked[name] = element;
    }
  }

  markFound() {
    const found = this.found && new Set([...this.found].map((id) => this.findShownBox(id)));
    this.drawing.svg.classList.toggle("looking", found !== null);
    for (const [id, { element }] of this.drawing.cards) element.classList.toggle("found", found !== null && found.has(id));
  }

  // Scrolls just far enough to bring a node into view; without animation if steps follow each other quickly.
  reveal(id) {
    const isQuick = performance.now() - (this.revealed ?? 0) < 400;
    this.revealed = performance.now();
    const card = this.drawing.cards.get(this.findShownBox(id));
    if (!card || this.isWhole) return;
    const room = this.stage.getBoundingClientRect();
    const place = card.element.getBoundingClientRect();
    const over = (low, high, from, to) => (low < from ? low - from : high > to && high - low < to - from ? high - to : 0);
    const [left, top] = [
      over(place.left - 24, place.right + 24, room.left, room.right),
      over(place.top - 24, place.bottom + 24, room.top, room.bottom),
    ];
    if (left || top) this.stage.scrollBy({ left, top, behavior: prefersReducedMotion() || isQuick ? "auto" : "smooth" });
  }

  get isWhole() {
    return this.stage.scrollWidth <= this.stage.clientWidth && this.stage.scrollHeight <= this.stage.clientHeight;
  }

  // Shows the whole drawing if its text is readable at that size, or else its whole width.
  fit() {
    const { width, height } = this.drawing;
    const wide = (this.stage.clientWidth - 24) / width;
    const whole = Math.min(wide, (this.stage.clientHeight - 24) / height, 1.25);
    this.zoomTo(whole >= READABLE ? whole : Math.max(Math.min(wide, 1), SMALLEST));
    this.isFitted = true;
  }

  // Zooms, and keeps the drawing in place at one point of the stage.
  zoomTo(scale, [x, y] = [this.stage.clientWidth / 2, this.stage.clientHeight / 2]) {
    const next = Math.max(SMALLEST, Math.min(LARGEST, scale));
    const { svg, width, height } = this.drawing;
    const ratio = next / (this.scale ?? next);
    const [left, top] = [this.stage.scrollLeft, this.stage.scrollTop];
    svg.setAttribute("width", String(Math.round(width * next)));
    svg.setAttribute("height", String(Math.round(height * next)));
    this.stage.scrollTo((left + x) * ratio - x, (top + y) * ratio - y);
    this.scale = next;
    this.isFitted = false;
  }

  listen() {
    const { stage } = this;
    byId("zoom-in").addEventListener("click", () => this.zoomTo(this.scale * 1.25));
    byId("zoom-out").addEventListener("click", () => this.zoomTo(this.scale / 1.25));
    byId("zoom-fit").addEventListener("click", () => this.fit());
    new ResizeObserver(() => {
      if (!this.isFitted) return;
      this.fit();
      this.reveal(this.at);
    }).observe(stage);
    stage.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      const room = stage.getBoundingClientRect();
      this.zoomTo(this.scale * Math.exp(-event.deltaY / 300), [event.clientX - room.left, event.clientY - room.top]);
    }, { passive: false });
    stage.addEventListener("click", (event) => {
      if (this.wasDragged) return;
      const node = event.target.closest(".node");
      this.choose(node ? node.dataset.id : null);
    });
    stage.addEventListener("keydown", (event) => this.onKey(event));
    this.listenToDrags();
  }

  listenToDrags() {
    const { stage } = this;
    let from = null;
    stage.addEventListener("pointerdown", (event) => {
      this.wasDragged = false;
      if (event.button === 0 && event.pointerType === "mouse") {
        from = { x: event.clientX, y: event.clientY, left: stage.scrollLeft, top: stage.scrollTop };
      }
    });
    window.addEventListener("pointermove", (event) => {
      if (!from) return;
      const [x, y] = [event.clientX - from.x, event.clientY - from.y];
      if (Math.abs(x) + Math.abs(y) > 4) this.wasDragged = true;
      if (this.wasDragged) stage.scrollTo(from.left - x, from.top - y);
    });
    window.addEventListener("pointerup", () => { from = null; });
  }

  // Arrow keys select the nearest node in their direction on the screen, not the next one in order of declaration.
  onKey(event) {
    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const direction = directions[event.key];
    if (!direction) return;
    event.preventDefault();
    event.stopPropagation();
    const next = this.findNearest(this.findShownBox(this.chosen), direction);
    if (next) {
      this.choose(next);
      this.stage.setAttribute("aria-activedescendant", `${this.depth}-${next}`);
      this.reveal(next);
    }
  }

  findNearest(from, [right, down]) {
    const middle = (id) => {
      const place = this.drawing.cards.get(id).element.querySelector(".body").getBoundingClientRect();
      return [place.left + place.width / 2, place.top + Math.min(place.height / 2, 16)];
    };
    const nodes = [...this.model.boxes.keys()].filter((id) => this.drawing.cards.get(id)?.element.id);
    if (from === null) return this.findShownBox(this.at) ?? nodes[0] ?? null;
    const [x, y] = middle(from);
    let best = [Infinity, null];
    for (const id of nodes) {
      const [ahead, aside] = ((dx, dy) => [dx * right + dy * down, Math.abs(dx * down) + Math.abs(dy * right)])(
        middle(id)[0] - x, middle(id)[1] - y);
      if (id !== from && ahead > 1 && ahead + 2 * aside < best[0]) best = [ahead + 2 * aside, id];
    }
    return best[1];
  }
}

// Returns a badge in the same words as `format_badge` in `beluga_graph/draw/overlay.py`, as of the time of a step.
function formatBadge(mark, at) {
  const busy = mark.busy + (mark.clocks ?? 0) * at;
  const time = busy || !(mark.now || mark.waited) ? [formatDuration(busy)] : [];
  return [...(mark.before ?? []), ...time, ...(mark.after ?? [])].join(" \u00b7 ") || mark.status;
}
