// Making elements, and words for numbers. All that comes out of a run is set as text, never as markup.

const byId = (id) => document.getElementById(id);

// Makes an element: `text` becomes its text, `on` its listeners, `class` its class; the rest are attributes.
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

// Writes text only where it is another one: what does not change costs nothing.
function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// A value as a block: JSON, but a text as what it says. What is cut is told within it.
function valueBlock(json, kind = "") {
  const isText = json.startsWith('"');
  const said = isText ? JSON.parse(json) : json;
  const block = textBlock(said === "" ? "(empty text)" : said, `${isText ? "text" : "mono"} ${kind}`);
  if (said === "") block.classList.add("soft");
  return block;
}

// A text as a block. One that may be so long that it scrolls can be focused: keys scroll it then.
function textBlock(text, kind) {
  const isLong = text.length > 200 || text.split("\n").length > 8;
  return make("pre", { class: `value ${kind}`, tabindex: isLong ? 0 : undefined, text });
}

// A value in one line, for lists.
function brief(json) {
  const said = json.startsWith('"') ? JSON.parse(json) : json;
  return said.slice(0, 200).replace(/\s+/g, " ");
}

// As `shown_duration` of the other drawings tells one.
function duration(milliseconds) {
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

const counted = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

// The colour of the theme that is in force, for what is drawn on a canvas.
function colours() {
  const style = getComputedStyle(document.documentElement);
  return (name) => style.getPropertyValue(`--${name}`).trim();
}

// A canvas as sharp as the screen; returns what draws on it, in CSS pixels.
function sharpened(canvas, width, height) {
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
