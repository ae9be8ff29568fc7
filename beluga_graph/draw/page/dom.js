// Creates elements and formats numbers. Values of a run are set as text, never as markup.

const byId = (id) => document.getElementById(id);

// Creates an element: `text` is its text, `on` its listeners by event; all other keys are attributes.
function make(tag, { text, on, ...attributes } = {}, ...children) {
  const element = document.createElement(tag);
  for (const name in attributes) {
    if (attributes[name] !== undefined && attributes[name] !== false) element.setAttribute(name, attributes[name]);
  }
  if (text !== undefined) element.textContent = text;
  for (const kind in on ?? {}) element.addEventListener(kind, on[kind]);
  element.append(...children.filter(Boolean));
  return element;
}

// Sets the text of an element only if it differs, because setting equal text still costs a layout.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Creates a block that shows a value as JSON, or the plain text of a string. A cut value contains a note about it.
function makeValueBlock(json, kind = "") {
  const isText = json.startsWith('"');
  const shown = isText ? JSON.parse(json) : json;
  const block = makeTextBlock(shown === "" ? "(empty text)" : shown, `${isText ? "text" : "mono"} ${kind}`);
  if (shown === "") block.classList.add("soft");
  return block;
}

// Creates a block of text. A long one can be focused, so that keys scroll it.
function makeTextBlock(text, kind) {
  const isLong = text.length > 200 || text.split("\n").length > 8;
  return make("pre", { class: `value ${kind}`, tabindex: isLong ? 0 : undefined, text });
}

// Returns a value on one line, for lists.
function summarize(json) {
  const shown = json.startsWith('"') ? JSON.parse(json) : json;
  return shown.slice(0, 200).replace(/\s+/g, " ");
}

// Returns a duration in the same words as `format_duration` in `beluga_graph/draw/text.py`.
function formatDuration(milliseconds) {
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  let [large, small] = [Math.floor(whole / 60), whole % 60];
  if (large < 60) return small ? `${large} min ${small} s` : `${large} min`;
  [large, small] = [Math.floor(large / 60), large % 60];
  if (large < 48) return small ? `${large} h ${small} min` : `${large} h`;
  [large, small] = [Math.floor(large / 24), large % 24];
  return small ? `${large} d ${small} h` : `${large} d`;
}

const formatCount = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;

const prefersReducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// Returns a function that maps the name of a colour to its value in the current theme, for use on a canvas.
function readColours() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

// Scales a canvas to the resolution of the screen; returns a drawing context that uses CSS pixels.
function sharpen(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}
