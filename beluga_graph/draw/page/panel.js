// The details of the step on display, and of the selected node.

const KINDS = {
  function: "function", agent: "agent", tool: "tool", fan_out: "fan-out", join: "join", wait: "wait",
  timer: "timer", handoff: "handoff", choice: "choice", frame: "sub-flow", start: "start", end: "end",
};

class Panel {
  constructor(model, { go, choose }) {
    Object.assign(this, { model, go, choose });
    this.tabs = { step: byId("tab-step"), node: byId("tab-node") };
    for (const name in this.tabs) {
      this.tabs[name].addEventListener("click", () => this.selectTab(name));
      this.tabs[name].addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        event.preventDefault();
        event.stopPropagation();
        this.selectTab(name === "step" ? "node" : "step");
        this.tabs[this.open].focus();
      });
    }
    if (!model.hasRun) this.tabs.step.remove();
    this.selectTab(model.hasRun ? "step" : "node");
    this.showNode(null);
  }

  // Selects one of the two tabs.
  selectTab(name) {
    this.open = name;
    for (const known in this.tabs) {
      this.tabs[known].setAttribute("aria-selected", String(known === name));
      this.tabs[known].tabIndex = known === name ? 0 : -1;
      byId(known).toggleAttribute("hidden", known !== name);
    }
  }

  showStep(step, state) {
    const parts = [make("h3", { text: step.what }), this.makeFacts(step), ...this.makeValues(step)];
    if (step.state) parts.push(makeHeading("State"), ...step.state.map((change) => this.makeChange(change)));
    // The value that a node returned is shown above. Its event is listed only if it also has streamed text.
    const events = (step.events ?? []).filter((event) => event.type !== "node_finished" || event.text !== undefined);
    if (events.length) parts.push(makeHeading("Events"), ...events.map((event) => this.makeEvent(event)));
    if (state.fields.size) parts.push(this.makeState(state));
    byId("step").replaceChildren(...parts);
    byId("step").scrollTop = 0;
  }

  makeFacts(step) {
    const facts = make("div", { class: "facts" });
    if (step.node) facts.append(this.makeNodeChip(step.node));
    if (step.attempt > 1) facts.append(make("span", { class: "chip s-retrying", text: `attempt ${step.attempt}` }));
    if (step.status) facts.append(make("span", { class: `pill is-${step.status}`, text: step.status }));
    facts.append(make("span", { class: "soft", text: `${step.trigger} at ${formatDuration(step.at)}` }));
    if (step.token) facts.append(make("code", { class: "token soft", text: step.token }));
    return facts;
  }

  makeNodeChip(id) {
    const label = this.model.boxes.get(id).label;
    return make("button", { type: "button", class: "chip", title: "Show the node", text: label, on: { click: () => this.choose(id) } });
  }

  makeValues(step) {
    const [given, gave] = [this.model.text(step.given), this.model.text(step.gave)];
    if (given !== undefined && given === gave) return [makeHeading("Value in and out"), makeValueBlock(given)];
    const found = given === undefined ? [] : [makeHeading("Value in"), makeValueBlock(given)];
    return gave === undefined ? found : [...found, makeHeading("Value out"), makeValueBlock(gave)];
  }

  // Creates the change of a field: the values before and after, or the items that were added.
  makeChange(change) {
    const box = make("div", { class: "change" }, this.makeFieldName(change));
    if (change.items === undefined) {
      const before = this.model.text(change.before);
      const after = this.model.text(change.after);
      const pair = make("div", { class: (before ?? "").length < 30 && after.length < 30 ? "pair" : undefined });
      if (before !== undefined) pair.append(makeValueBlock(before, "before"));
      pair.append(makeValueBlock(after, "after"));
      box.append(pair);
      return box;
    }
    box.append(...change.items.map((item) => makeValueBlock(this.model.text(item), "after")));
    const more = change.count - change.items.length;
    if (more > 0) box.append(make("p", { class: "soft", text: `and ${formatCount(more, "more item")}` }));
    return box;
  }

  makeFieldName(change) {
    const name = make("div", { class: "field" }, make("code", { text: change.field }));
    const lane = this.model.lanes[change.lane];
    if (lane.parent !== null) name.append(make("span", { class: "soft", text: `in ${this.model.label(lane)} [${lane.branch}]` }));
    if (change.items !== undefined) {
      name.append(make("span", { class: "soft", text: `${formatCount(change.count, "item")} added, ${change.from + change.count} in all` }));
    }
    return name;
  }

  // Creates the whole state, folded: the value of each field, or the last item of a list.
  makeState(state) {
    const box = make("details", { class: "whole" }, make("summary", { text: `State now: ${formatCount(state.fields.size, "field")}` }));
    box.addEventListener("toggle", () => {
      if (!box.open || box.childElementCount > 1) return;
      for (const field of [...state.fields.values()].slice(0, 200)) {
        const name = this.makeFieldName({ ...field, items: undefined });
        const shown = field.length === undefined ? field.after : field.items.at(-1);
        if (field.length !== undefined) name.append(make("span", { class: "soft", text: `${formatCount(field.length, "item")}, the last:` }));
        box.append(make("div", { class: "change" }, name, makeValueBlock(this.model.text(shown) ?? "null")));
      }
    });
    return box;
  }

  makeEvent(event) {
    const box = make("article", { class: `event e-${event.type}` });
    const words = [event.name, event.source && `${event.source} \u2192 ${event.target}`].filter(Boolean);
    const head = make("div", { class: "event-head" }, make("b", { text: TYPES[event.type] ?? event.type }));
    for (const word of words) head.append(make("code", { text: word }));
    if (event.agent) head.append(make("span", { class: "soft", text: event.agent }));
    if (event.delay_s !== undefined) head.append(make("span", { class: "soft", text: `again in ${formatDuration(event.delay_s * 1000)}` }));
    if (event.due_ms !== undefined) head.append(make("span", { class: "soft", text: `due ${formatClockTime(event.due_ms)}` }));
    box.append(head);
    if (event.error !== undefined) box.append(makeTextBlock(this.model.text(event.error), "text error"));
    if (event.arguments !== undefined) box.append(makeValueBlock(this.model.text(event.arguments)));
    if (event.text !== undefined) box.append(makeTextBlock(this.model.text(event.text), "text said"));
    // The value that a node returned is shown above.
    if (event.output !== undefined && event.type !== "node_finished") box.append(makeValueBlock(this.model.text(event.output)));
    return box;
  }

  showNode(id) {
    const box = this.model.boxes.get(id);
    if (!box) {
      byId("node").replaceChildren(make("p", { class: "empty", text: "Choose a node in the graph to see what it is and what happened there." }));
      return;
    }
    const facts = make("dl", { class: "about" });
    const addFact = (name, value) => value && facts.append(make("dt", { text: name }), make("dd", { text: value }));
    addFact("kind", [KINDS[box.kind], box.note].filter(Boolean).join(", "));
    if (box.name !== box.label) addFact("path", box.name);
    for (const word of ["agent", "description"]) addFact(word, box[word]);
    addFact("takes", box.input_type);
    addFact("gives", box.output_type);
    const parts = [make("h3", { text: box.label }), facts, ...this.makeNeighbours(id)];
    const visits = this.model.spans.filter((span) => span.node === id);
    if (this.model.hasRun) parts.push(makeHeading(formatCount(visits.length, "visit")));
    const rows = make("div", { id: "visits", class: "rows", role: "listbox", tabindex: 0, "aria-label": "Visits" });
    byId("node").replaceChildren(...parts, visits.length ? rows : "");
    if (visits.length) this.listVisits(rows, visits);
  }

  listVisits(rows, visits) {
    const { model } = this;
    const end = model.steps.at(-1)?.at ?? 0;
    rows.style.height = `${Math.min(visits.length, 8) * 32 + 2}px`;
    const draw = (row, span) => {
      row.append(
        make("span", { class: `spot is-${span.status}` }),
        make("span", { class: "seq", text: String(findStep(span, model)) }),
        make("span", { class: "detail", text: describeVisit(span, end) }),
      );
    };
    const choose = (index) => { list.select(index); this.go(findStep(visits[index], model)); };
    const list = new VirtualList(rows, { height: 32, draw, choose });
    list.show(visits);
  }

  // Creates the lists of the nodes before and after a node.
  makeNeighbours(id) {
    const { lines } = this.model.head;
    const found = [];
    for (const [word, side, other] of [["From", "target", "source"], ["To", "source", "target"]]) {
      const row = make("div", { class: "facts" }, make("span", { class: "soft way", text: word }));
      for (const line of lines.filter((known) => known[side] === id)) {
        const label = line.label && line.kind !== "error" ? ` (${line.label})` : "";
        const box = this.model.boxes.get(line[other]);
        const text = `${box.label}${line.kind === "error" ? " (on error)" : label}`;
        if (box.kind === "start" || box.kind === "end") row.append(make("span", { class: "soft", text: box.label.toLowerCase() + label }));
        else row.append(make("button", { type: "button", class: "chip", text, on: { click: () => this.choose(box.id) } }));
      }
      if (row.childElementCount > 1) found.push(row);
    }
    return found;
  }
}

const makeHeading = (text) => make("h4", { text });

const formatClockTime = (milliseconds) => `${new Date(milliseconds).toISOString().slice(0, 19).replace("T", " ")}Z`;
