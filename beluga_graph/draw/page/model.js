// The model: a head, and deltas in order. It knows nothing of the page, so it can also be fed by a run that goes on.
// What a delta holds is told in `beluga_graph/draw/replay.py`.

const KEYFRAME = 64; // steps between two whole states that are kept

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
    if (head.begin) this.take(head.begin);
    this.keyframes = [copyState(this.state)]; // number k is the state after k * KEYFRAME steps
    steps.forEach((delta) => this.append(delta));
  }

  // Whether there is a run, or only a flow.
  get hasRun() {
    return this.head.run !== undefined;
  }

  // Takes the next step of the run. Its cost is the size of the step.
  append(delta) {
    this.steps.push(delta);
    this.take(delta);
    this.state.count += 1;
    if (this.steps.length % KEYFRAME === 0) this.keyframes.push(copyState(this.state));
  }

  take(delta) {
    for (const text of delta.texts ?? []) this.texts.push(text);
    for (const lane of delta.lanes ?? []) this.lanes[lane.id] = lane;
    for (const span of delta.spans ?? []) this.spans[span.id] = { ...this.spans[span.id], ...span };
    applyDelta(this.state, delta);
  }

  // The visit that a step is about: the one that it ended, or else the first that it changed.
  spanOf(step) {
    const found = step.spans?.find((span) => span.ended === step.seq && !this.spans[span.id].opens) ?? step.spans?.[0];
    return found && this.spans[found.id];
  }

  // Brings a state to after the first `count` steps, and returns it: forward delta by delta, back by way of a keyframe.
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

  // The text that a number stands for; `undefined` for none.
  text(number) {
    return number === undefined ? undefined : this.texts[number];
  }

  label(named) {
    return this.boxes.get(named.node)?.label ?? named.name ?? "";
  }

  // Whether a box is another one, or stands in it at any depth.
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

// The one way in which a state changes. Marks, counts and fields are told whole, so that nothing is ever computed back.
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
