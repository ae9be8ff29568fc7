// The drawing. It was laid out before, once for each depth; here only classes and texts change.

const [SMALLEST, LARGEST, READABLE] = [0.1, 4, 0.6];

class GraphView {
  // `choose(id)` is told which node was clicked, or chosen by keys; `null` for none.
  constructor(model, depth, choose) {
    this.model = model;
    this.choose = choose;
    this.stage = byId("stage");
    this.drawings = [...this.stage.querySelectorAll("svg.graph")].map((svg) => this.prepared(svg));
    this.labels = new Map(model.head.lines.map((line) => [line.id, line.label]));
    this.state = null;
    this.at = null; // the node of the step that is shown
    this.chosen = null;
    this.found = null; // the nodes of what is looked for, if anything is
    this.marked = {}; // by class: the element that has it
    this.isFitted = true;
    this.openTo(depth);
    this.listen();
  }

  get drawing() {
    return this.drawings[this.depth];
  }

  // Finds all that can change in a drawing, once.
  prepared(svg) {
    const cards = new Map();
    const wires = new Map();
    if (this.model.hasRun) svg.querySelector(".drawing").classList.add("run");
    for (const element of svg.querySelectorAll("[data-id]")) {
      const { id } = element.dataset;
      if (element.classList.contains("wire")) {
        wires.set(id, this.preparedWire(element));
        continue;
      }
      const badge = element.querySelector(":scope > .badge");
      badge?.removeAttribute("textLength"); // it was as wide as the widest
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

  preparedWire(element) {
    const route = element.querySelector(".route");
    if (route) { // what stands there changes: keep it in the middle of its plate
      const plate = element.querySelector(".plate");
      route.removeAttribute("textLength");
      route.removeAttribute("lengthAdjust");
      route.setAttribute("text-anchor", "middle");
      route.setAttribute("x", String(plate.x.baseVal.value + plate.width.baseVal.value / 2));
    }
    return { element, route, count: undefined };
  }

  // Shows one of the depths: how many levels of sub-flows are open.
  openTo(depth) {
    this.depth = Math.max(0, Math.min(this.drawings.length - 1, depth));
    this.drawings.forEach(({ svg }, number) => svg.toggleAttribute("hidden", number !== this.depth));
    if (this.isFitted) this.fit();
    else this.zoomTo(this.scale);
    this.show(this.state, this.at);
    this.mark();
    this.markFound();
  }

  // Shows a state of the run: what did not change since is not touched.
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
      if (card.badge) setText(card.badge, mark ? badgeOf(mark, state.at) : "");
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

  // The box of a node as it is drawn at this depth: itself, or the folded frame that it stands in.
  shownBox(id) {
    for (let box = this.model.boxes.get(id); box; box = this.model.boxes.get(box.frame)) {
      if (this.drawing.cards.has(box.id)) return box.id;
    }
    return null;
  }

  // Marks the node of the step, and the one that is chosen.
  mark() {
    for (const [name, id] of [["current", this.at], ["chosen", this.chosen]]) {
      const element = this.drawing.cards.get(this.shownBox(id))?.element;
      if (this.marked[name] === element) continue;
      this.marked[name]?.classList.remove(name);
      element?.classList.add(name);
      this.marked[name] = element;
    }
  }

  markFound() {
    const found = this.found && new Set([...this.found].map((id) => this.shownBox(id)));
    this.drawing.svg.classList.toggle("looking", found !== null);
    for (const [id, { element }] of this.drawing.cards) element.classList.toggle("found", found !== null && found.has(id));
  }

  // Scrolls as little as brings a node into view: at once where one step soon follows another.
  reveal(id) {
    const isQuick = performance.now() - (this.revealed ?? 0) < 400;
    this.revealed = performance.now();
    const card = this.drawing.cards.get(this.shownBox(id));
    if (!card || this.isWhole) return;
    const room = this.stage.getBoundingClientRect();
    const place = card.element.getBoundingClientRect();
    const over = (low, high, from, to) => (low < from ? low - from : high > to && high - low < to - from ? high - to : 0);
    const [left, top] = [
      over(place.left - 24, place.right + 24, room.left, room.right),
      over(place.top - 24, place.bottom + 24, room.top, room.bottom),
    ];
    if (left || top) this.stage.scrollBy({ left, top, behavior: calm() || isQuick ? "auto" : "smooth" });
  }

  get isWhole() {
    return this.stage.scrollWidth <= this.stage.clientWidth && this.stage.scrollHeight <= this.stage.clientHeight;
  }

  // Shows all of it if it can be read so, else all of its width.
  fit() {
    const { width, height } = this.drawing;
    const wide = (this.stage.clientWidth - 24) / width;
    const whole = Math.min(wide, (this.stage.clientHeight - 24) / height, 1.25);
    this.zoomTo(whole >= READABLE ? whole : Math.max(Math.min(wide, 1), SMALLEST));
    this.isFitted = true;
  }

  // Zooms, and keeps in place what is at a point of the stage.
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

  // Arrow keys go to the nearest node in their direction, for the eye follows the drawing and not the order of nodes.
  onKey(event) {
    const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const way = ways[event.key];
    if (!way) return;
    event.preventDefault();
    event.stopPropagation();
    const next = this.nearest(this.shownBox(this.chosen), way);
    if (next) {
      this.choose(next);
      this.stage.setAttribute("aria-activedescendant", `${this.depth}-${next}`);
      this.reveal(next);
    }
  }

  nearest(from, [right, down]) {
    const middle = (id) => {
      const place = this.drawing.cards.get(id).element.querySelector(".body").getBoundingClientRect();
      return [place.left + place.width / 2, place.top + Math.min(place.height / 2, 16)];
    };
    const nodes = [...this.model.boxes.keys()].filter((id) => this.drawing.cards.get(id)?.element.id);
    if (from === null) return this.shownBox(this.at) ?? nodes[0] ?? null;
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

// As `badge_of` of the other drawings tells a mark; the time of what runs goes on with that of the step.
function badgeOf(mark, at) {
  const busy = mark.busy + (mark.clocks ?? 0) * at;
  const time = busy || !(mark.now || mark.waited) ? [duration(busy)] : [];
  return [...(mark.before ?? []), ...time, ...(mark.after ?? [])].join(" \u00b7 ") || mark.status;
}
