// The model: a head, and deltas in order. It is independent of the page, so that a live run could append to it.
// The keys of a delta are documented in `beluga_graph/draw/page/replay.py`.

const KEYFRAME = 64; // steps between two states that are kept

class Model {
  constructor({ head, steps, signs }) {
    this.head = head;
    this.signs = signs; // by status
    this.boxes = new Map(head.boxes.map((box) => [box.id, box]));
    this.steps = [];
    this.texts = [];
    this.spans = []; // all visits so far, by id
    this.lanes = [{ id: 0, parent: null }];
    this.state = emptyState();
    if (head.begin) this.apply(head.begin);
    this.keyframes = [copyState(this.state)]; // number k is the state after k * KEYFRAME steps
    steps.forEach((delta) => this.append(delta));
  }

  // Whether the page shows a run, and not only a flow.
  get hasRun() {
    return this.head.run !== undefined;
  }

  // Appends the next step of the run. The cost grows with the size of the step only.
  append(delta) {
    this.steps.push(delta);
    this.apply(delta);
    this.state.count += 1;
    if (this.steps.length % KEYFRAME === 0) this.keyframes.push(copyState(this.state));
  }

  apply(delta) {
    for (const text of delta.texts ?? []) this.texts.push(text);
    for (const lane of delta.lanes ?? []) this.lanes[lane.id] = lane;
    for (const span of delta.spans ?? []) this.spans[span.id] = { ...this.spans[span.id], ...span };
    applyDelta(this.state, delta);
  }

  // Returns the main visit of a step: the one that it ended, or else the first one that it changed.
  findVisit(step) {
    const found = step.spans?.find((span) => span.ended === step.seq && !this.spans[span.id].opens) ?? step.spans?.[0];
    return found && this.spans[found.id];
  }

  // Returns the state after the first `count` steps. Goes forward by deltas, and back to the last keyframe first.
  seek(state, count) {
    const key = Math.floor(count / KEYFRAME);
    let found = state;
    if (count < state.count || key * KEYFRAME > state.count) found = copyState(this.keyframes[key]);
    while (found.count < count) {
      const delta = this.steps[found.count];
      applyDelta(found, delta);
      found.count += 1;
    }
    return found;
  }

  // Returns an entry of the table of texts; `undefined` without a number.
  text(number) {
    return number === undefined ? undefined : this.texts[number];
  }

  // Returns the label of the node that an entry names, by the id of its box or by its path.
  label(entry) {
    return this.boxes.get(entry.node)?.label ?? entry.name ?? "";
  }

  // Returns whether a box is `outer`, or is within it at any depth.
  isWithin(id, outer) {
    for (let box = this.boxes.get(id); box; box = this.boxes.get(box.frame)) if (box.id === outer) return true;
    return false;
  }
}

function emptyState() {
  return { count: 0, seq: 0, at: 0, status: "", tokens: 0, marks: new Map(), taken: new Map(), fields: new Map() };
}

function copyState(state) {
  return {
    ...state,
    marks: new Map(state.marks),
    taken: new Map(state.taken),
    fields: new Map(state.fields),
  };
}

// Applies a delta to a state. A delta has whole statistics, counts and fields, so that no change has to be undone.
function applyDelta(state, delta) {
  state.seq = delta.seq;
  state.at = delta.at;
  if (delta.status !== undefined) state.status = delta.status;
  if (delta.tokens !== undefined) state.tokens = delta.tokens;
  for (const id in delta.marks ?? {}) state.marks.set(id, delta.marks[id]);
  for (const id in delta.taken ?? {}) state.taken.set(id, delta.taken[id]);
  for (const change of delta.state ?? []) {
    const key = `${change.lane} ${change.field}`;
    if (change.items === undefined) state.fields.set(key, { ...change, length: undefined });
    else state.fields.set(key, { ...change, length: change.from + change.count });
  }
}
