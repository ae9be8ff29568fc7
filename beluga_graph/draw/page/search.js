// The list of events, and what is looked for in it. Of a flow without a run, the list of its nodes.

const TYPES = {
  run_started: "started", node_finished: "finished", tool_call: "tool call", tool_result: "tool result",
  handoff: "handoff", retry: "retry", waiting: "waiting", signal: "signal", timer: "timer", error: "error",
  done: "done", step: "step",
};

class Events {
  // `go(count)` shows a step, `choose(id)` a node, `found(ids)` which nodes match; `null` for no search.
  constructor(model, { go, choose, found }) {
    Object.assign(this, { model, go, choose, found, chosen: null, query: "", haystacks: null });
    this.input = byId("search");
    this.rows = model.hasRun ? eventRows(model) : nodeRows(model);
    this.shown = this.rows;
    this.list = new VirtualList(byId("rows"), {
      height: 32,
      draw: (row, item) => this.drawRow(row, item),
      choose: (index) => this.pick(index),
    });
    if (!model.hasRun) {
      this.input.placeholder = "Search nodes";
      byId("rows").setAttribute("aria-label", "Nodes");
    }
    this.input.addEventListener("input", () => this.look(this.input.value));
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.onward(event.shiftKey ? -1 : 1);
    });
    byId("chosen").addEventListener("click", () => this.choose(null));
    this.refresh();
  }

  look(query) {
    this.query = query.trim().toLowerCase();
    this.refresh();
  }

  // Shows only what happened at a node, and in it; `null` for all nodes.
  narrow(id) {
    this.chosen = this.model.hasRun ? id : null;
    const box = this.model.boxes.get(this.chosen);
    byId("chosen").toggleAttribute("hidden", !box);
    if (box) byId("chosen").textContent = `${box.label} \u00d7`;
    this.refresh();
  }

  refresh() {
    const { chosen, model } = this;
    const isNear = (row) => chosen === null || (row.node !== undefined && model.isWithin(row.node, chosen));
    const hits = this.query === "" ? null : this.matching();
    this.shown = this.rows.filter((row, index) => isNear(row) && (hits === null || hits[index]));
    this.list.show(this.shown);
    setText(byId("matches"), hits ? matchWords(this.shown.length, hits.filter(Boolean).length, chosen !== null) : "");
    this.found(hits === null ? null : this.foundNodes(hits));
    this.follow(this.count ?? 0);
  }

  // Which rows hold what is looked for. What they hold is put together once, when somebody looks first.
  matching() {
    this.haystacks ??= this.rows.map((row) => haystack(this.model, row));
    return this.haystacks.map((text) => text.includes(this.query));
  }

  // The nodes that match, within the chosen one and elsewhere.
  foundNodes(hits) {
    const nodes = new Set(this.rows.filter((row, index) => hits[index] && row.node).map((row) => row.node));
    for (const box of this.model.boxes.values()) if (box.name.toLowerCase().includes(this.query)) nodes.add(box.id);
    return nodes;
  }

  // Marks the first row of the step that is shown, unless another row of it is.
  follow(count) {
    this.count = count;
    if (!this.model.hasRun || this.shown[this.list.chosen]?.count === count) return;
    let [low, high] = [0, this.shown.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.shown[middle].count < count) low = middle + 1;
      else high = middle;
    }
    this.list.select(this.shown[low]?.count === count ? low : -1);
    this.position = low;
  }

  pick(index) {
    const row = this.shown[index];
    this.list.select(index);
    this.position = index;
    if (row.count === undefined) this.choose(row.node);
    else this.go(row.count);
  }

  // Goes to what is found next, or before; after the last comes the first.
  onward(by) {
    const { length } = this.shown;
    if (!length) return;
    const at = this.list.chosen >= 0 ? this.list.chosen + by : (this.position ?? 0) + (by > 0 ? 0 : -1);
    this.pick((at + length) % length);
  }

  drawRow(row, item) {
    row.classList.add(`e-${item.kind}`);
    row.append(
      make("span", { class: "spot" }),
      item.count === undefined ? "" : make("span", { class: "seq", text: String(item.count) }),
      make("span", { class: "type", text: item.type }),
      make("span", { class: "who", text: item.who }),
      make("span", { class: "detail", text: item.detail(this.model) }),
    );
  }
}

// How many rows match: where only those of a chosen node are shown, also how many others there are.
function matchWords(shown, all, isNarrowed) {
  const words = `${shown.toLocaleString("en")} ${shown === 1 ? "match" : "matches"}`;
  return isNarrowed ? `${words} here, ${(all - shown).toLocaleString("en")} elsewhere` : words;
}

function eventRows(model) {
  const rows = [];
  model.steps.forEach((step, index) => {
    const count = index + 1;
    const events = step.events ?? [{ type: "step", node: step.node, what: step.what }];
    for (const event of events) {
      rows.push({
        count, step, event, kind: event.type, node: event.node, type: TYPES[event.type] ?? event.type,
        who: model.label(event), detail: () => eventDetail(model, event),
      });
    }
  });
  return rows;
}

function eventDetail(model, event) {
  const text = model.text(event.error) ?? model.text(event.text);
  const json = model.text(event.arguments) ?? model.text(event.output);
  const said = text !== undefined ? text.slice(0, 200) : json !== undefined ? brief(json) : (event.what ?? "");
  const name = event.name !== model.label(event) && event.name;
  return [name, event.target && `to ${event.target}`, said].filter(Boolean).join("  ");
}

function nodeRows(model) {
  return model.head.boxes.filter((box) => box.kind !== "start" && box.kind !== "end").map((box) => ({
    kind: box.kind, node: box.id, type: KINDS[box.kind], who: box.label, detail: () => box.note ?? box.description ?? "",
  }));
}

// All the text of a row, in small letters.
function haystack(model, row) {
  if (!row.event) return Object.values(model.boxes.get(row.node)).join("\n").toLowerCase();
  const { step, event } = row;
  const numbers = [event.text, event.error, event.arguments, event.output];
  if (event === step.events?.at(-1) || !step.events) {
    numbers.push(step.given, step.gave);
    for (const change of step.state ?? []) numbers.push(change.after, ...(change.items ?? []));
  }
  const texts = numbers.map((number) => model.text(number) ?? "");
  const path = model.boxes.get(event.node)?.name ?? event.name;
  const words = [step.seq, step.what, step.trigger, step.token, row.type, path, event.name, event.agent, event.target];
  return [...words, ...texts].filter((word) => word !== undefined && word !== "").join("\n").toLowerCase();
}
