// What is known of the step that is shown, and of the node that is chosen.

const KINDS = {
  function: "function", agent: "agent", tool: "tool", fan_out: "fan-out", join: "join", wait: "wait",
  timer: "timer", handoff: "handoff", choice: "choice", frame: "sub-flow", start: "start", end: "end",
};

class Panel {
  constructor(model, { go, choose }) {
    Object.assign(this, { model, go, choose });
    this.tabs = { step: byId("tab-step"), node: byId("tab-node") };
    for (const name in this.tabs) {
      this.tabs[name].addEventListener("click", () => this.turn(name));
      this.tabs[name].addEventListener("keydown", (event) => {
        if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
        event.preventDefault();
        event.stopPropagation();
        this.turn(name === "step" ? "node" : "step");
        this.tabs[this.open].focus();
      });
    }
    if (!model.hasRun) this.tabs.step.remove();
    this.turn(model.hasRun ? "step" : "node");
    this.showNode(null);
  }

  // Turns to one of the two tabs.
  turn(name) {
    this.open = name;
    for (const known in this.tabs) {
      this.tabs[known].setAttribute("aria-selected", String(known === name));
      this.tabs[known].tabIndex = known === name ? 0 : -1;
      byId(known).toggleAttribute("hidden", known !== name);
    }
  }

  showStep(step, state) {
    const parts = [make("h3", { text: step.what }), this.facts(step), ...this.values(step)];
    if (step.state) parts.push(heading("State"), ...step.state.map((change) => this.change(change)));
    // That a node returned is told above, with its value; here only if it also said something.
    const events = (step.events ?? []).filter((event) => event.type !== "node_finished" || event.text !== undefined);
    if (events.length) parts.push(heading("Events"), ...events.map((event) => this.event(event)));
    if (state.fields.size) parts.push(this.whole(state));
    byId("step").replaceChildren(...parts);
    byId("step").scrollTop = 0;
  }

  facts(step) {
    const facts = make("div", { class: "facts" });
    if (step.node) facts.append(this.nodeChip(step.node));
    if (step.attempt > 1) facts.append(make("span", { class: "chip s-retrying", text: `attempt ${step.attempt}` }));
    if (step.status) facts.append(make("span", { class: `pill is-${step.status}`, text: step.status }));
    facts.append(make("span", { class: "soft", text: `${step.trigger} at ${duration(step.at)}` }));
    if (step.token) facts.append(make("code", { class: "token soft", text: step.token }));
    return facts;
  }

  nodeChip(id) {
    const label = this.model.boxes.get(id).label;
    return make("button", { type: "button", class: "chip", title: "Show the node", text: label, on: { click: () => this.choose(id) } });
  }

  values(step) {
    const [given, gave] = [this.model.text(step.given), this.model.text(step.gave)];
    if (given !== undefined && given === gave) return [heading("Value in and out"), valueBlock(given)];
    const found = given === undefined ? [] : [heading("Value in"), valueBlock(given)];
    return gave === undefined ? found : [...found, heading("Value out"), valueBlock(gave)];
  }

  // What a step did to a field: the value before and after, or what was added.
  change(change) {
    const box = make("div", { class: "change" }, this.fieldName(change));
    if (change.items === undefined) {
      const before = this.model.text(change.before);
      const after = this.model.text(change.after);
      const pair = make("div", { class: (before ?? "").length < 30 && after.length < 30 ? "pair" : undefined });
      if (before !== undefined) pair.append(valueBlock(before, "before"));
      pair.append(valueBlock(after, "after"));
      box.append(pair);
      return box;
    }
    box.append(...change.items.map((item) => valueBlock(this.model.text(item), "after")));
    const more = change.count - change.items.length;
    if (more > 0) box.append(make("p", { class: "soft", text: `and ${counted(more, "more item")}` }));
    return box;
  }

  fieldName(change) {
    const name = make("div", { class: "field" }, make("code", { text: change.field }));
    const lane = this.model.lanes[change.lane];
    if (lane.parent !== null) name.append(make("span", { class: "soft", text: `in ${this.model.label(lane)} [${lane.branch}]` }));
    if (change.items !== undefined) {
      name.append(make("span", { class: "soft", text: `${counted(change.count, "item")} added, ${change.from + change.count} in all` }));
    }
    return name;
  }

  // The whole state, folded: what a field holds, of a list the last item that came.
  whole(state) {
    const box = make("details", { class: "whole" }, make("summary", { text: `State now: ${counted(state.fields.size, "field")}` }));
    box.addEventListener("toggle", () => {
      if (!box.open || box.childElementCount > 1) return;
      for (const field of [...state.fields.values()].slice(0, 200)) {
        const name = this.fieldName({ ...field, items: undefined });
        const shown = field.length === undefined ? field.after : field.items.at(-1);
        if (field.length !== undefined) name.append(make("span", { class: "soft", text: `${counted(field.length, "item")}, the last:` }));
        box.append(make("div", { class: "change" }, name, valueBlock(this.model.text(shown) ?? "null")));
      }
    });
    return box;
  }

  event(event) {
    const box = make("article", { class: `event e-${event.type}` });
    const words = [event.name, event.source && `${event.source} \u2192 ${event.target}`].filter(Boolean);
    const head = make("div", { class: "event-head" }, make("b", { text: TYPES[event.type] ?? event.type }));
    for (const word of words) head.append(make("code", { text: word }));
    if (event.agent) head.append(make("span", { class: "soft", text: event.agent }));
    if (event.delay_s !== undefined) head.append(make("span", { class: "soft", text: `again in ${duration(event.delay_s * 1000)}` }));
    if (event.due_ms !== undefined) head.append(make("span", { class: "soft", text: `due ${clockTime(event.due_ms)}` }));
    box.append(head);
    if (event.error !== undefined) box.append(textBlock(this.model.text(event.error), "text error"));
    if (event.arguments !== undefined) box.append(valueBlock(this.model.text(event.arguments)));
    if (event.text !== undefined) box.append(textBlock(this.model.text(event.text), "text said"));
    // What a node returned stands above as the value that it gave.
    if (event.output !== undefined && event.type !== "node_finished") box.append(valueBlock(this.model.text(event.output)));
    return box;
  }

  showNode(id) {
    const box = this.model.boxes.get(id);
    if (!box) {
      byId("node").replaceChildren(make("p", { class: "empty", text: "Choose a node in the graph to see what it is and what happened there." }));
      return;
    }
    const facts = make("dl", { class: "about" });
    const tell = (name, value) => value && facts.append(make("dt", { text: name }), make("dd", { text: value }));
    tell("kind", [KINDS[box.kind], box.note].filter(Boolean).join(", "));
    if (box.name !== box.label) tell("path", box.name);
    for (const word of ["agent", "description"]) tell(word, box[word]);
    tell("takes", box.input_type);
    tell("gives", box.output_type);
    const parts = [make("h3", { text: box.label }), facts, ...this.neighbours(id)];
    const visits = this.model.spans.filter((span) => span.node === id);
    if (this.model.hasRun) parts.push(heading(counted(visits.length, "visit")));
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
        make("span", { class: "seq", text: String(stepOf(span, model)) }),
        make("span", { class: "detail", text: visitWords(span, end) }),
      );
    };
    const choose = (index) => { list.select(index); this.go(stepOf(visits[index], model)); };
    const list = new VirtualList(rows, { height: 32, draw, choose });
    list.show(visits);
  }

  // Where the edges of a node come from and lead to.
  neighbours(id) {
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

const heading = (text) => make("h4", { text });

const clockTime = (milliseconds) => `${new Date(milliseconds).toISOString().slice(0, 19).replace("T", " ")}Z`;
