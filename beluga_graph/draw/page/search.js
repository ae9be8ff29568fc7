// The list of events, and the search in it. For a flow without a run, the list of its nodes.

const TYPES = {
  run_started: "started", node_finished: "finished", tool_call: "tool call", tool_result: "tool result",
  handoff: "handoff", retry: "retry", waiting: "waiting", signal: "signal", timer: "timer", error: "error",
  done: "done", step: "step",
};

class Events {
  // `go(count)` shows a step, `choose(id)` selects a node, `onFound(ids)` gets the matching nodes, `null` without a search.
  constructor(model, { go, choose, onFound }) {
    Object.assign(this, { model, go, choose, onFound, chosen: null, query: "", searchTexts: null });
    this.input = byId("search");
    this.rows = model.hasRun ? buildEventRows(model) : buildNodeRows(model);
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
    this.input.addEventListener("input", () => this.search(this.input.value));
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.goToMatch(event.shiftKey ? -1 : 1);
    });
    byId("chosen").addEventListener("click", () => this.choose(null));
    this.refresh();
  }

  search(query) {
    this.query = query.trim().toLowerCase();
    this.refresh();
  }

  // Shows only the events of a node and of the nodes in it; `null` for all nodes.
  filterByNode(id) {
    this.chosen = this.model.hasRun ? id : null;
    const box = this.model.boxes.get(this.chosen);
    byId("chosen").toggleAttribute("hidden", !box);
    if (box) byId("chosen").textContent = `${box.label} \u00d7`;
    this.refresh();
  }

  refresh() {
    const { chosen, model } = this;
    const isNear = (row) => chosen === null || (row.node !== undefined && model.isWithin(row.node, chosen));
    const hits = this.query === "" ? null : this.findMatches();
    this.shown = this.rows.filter((row, index) => isNear(row) && (hits === null || hits[index]));
    this.list.show(this.shown);
    setText(byId("matches"), hits ? formatMatches(this.shown.length, hits.filter(Boolean).length, chosen !== null) : "");
    this.onFound(hits === null ? null : this.collectNodes(hits));
    this.follow(this.count ?? 0);
  }

  // Returns for each row whether it matches. The texts of the rows are collected once, at the first search.
  findMatches() {
    this.searchTexts ??= this.rows.map((row) => collectText(this.model, row));
    return this.searchTexts.map((text) => text.includes(this.query));
  }

  // Returns the matching nodes, in the selected node and elsewhere.
  collectNodes(hits) {
    const nodes = new Set(this.rows.filter((row, index) => hits[index] && row.node).map((row) => row.node));
    for (const box of this.model.boxes.values()) if (box.name.toLowerCase().includes(this.query)) nodes.add(box.id);
    return nodes;
  }

  // Selects the first row of the step on display, unless another row of that step is selected.
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

  // Goes to the next or previous match; the first follows the last.
  goToMatch(by) {
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

// Returns the number of matches; if only those of one node are shown, also the number of the others.
function formatMatches(shown, all, isFiltered) {
  const words = `${shown.toLocaleString("en")} ${shown === 1 ? "match" : "matches"}`;
  return isFiltered ? `${words} here, ${(all - shown).toLocaleString("en")} elsewhere` : words;
}

function buildEventRows(model) {
  const rows = [];
  model.steps.forEach((step, index) => {
    const count = index + 1;
    const events = step.events ?? [{ type: "step", node: step.node, what: step.what }];
    for (const event of events) {
      rows.push({
        count, step, event, kind: event.type, node: event.node, type: TYPES[event.type] ?? event.type,
        who: model.label(event), detail: () => describeEvent(model, event),
      });
    }
  });
  return rows;
}

function describeEvent(model, event) {
  const text = model.text(event.error) ?? model.text(event.text);
  const json = model.text(event.arguments) ?? model.text(event.output);
  const words = text !== undefined ? text.slice(0, 200) : json !== undefined ? summarize(json) : (event.what ?? "");
  const name = event.name !== model.label(event) && event.name;
  return [name, event.target && `to ${event.target}`, words].filter(Boolean).join("  ");
}

function buildNodeRows(model) {
  return model.head.boxes.filter((box) => box.kind !== "start" && box.kind !== "end").map((box) => ({
    kind: box.kind, node: box.id, type: KINDS[box.kind], who: box.label, detail: () => box.note ?? box.description ?? "",
  }));
}

// Returns all text of a row, in lower case.
function collectText(model, row) {
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
