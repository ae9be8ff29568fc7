// The slider over the steps, with marks at errors, retries and waits, and playback.

const SPEEDS = [1, 4, 16, 64]; // steps per second
const THUMB = 16; // width of the slider's thumb, whose middle is at the position of a step

class Transport {
  constructor(model, go) {
    this.model = model;
    this.go = go;
    this.count = 0;
    this.timer = null;
    this.scrub = byId("scrub");
    this.scrub.min = String(Math.min(1, model.steps.length));
    this.scrub.max = String(model.steps.length);
    for (const speed of SPEEDS) byId("speed").append(make("option", { value: speed, text: `${speed} step${speed > 1 ? "s" : ""}/s` }));
    byId("speed").value = String(SPEEDS[1]);
    byId("speed").addEventListener("change", () => { if (this.timer) this.start(); });
    byId("previous").addEventListener("click", () => this.move(-1));
    byId("next").addEventListener("click", () => this.move(1));
    byId("play").addEventListener("click", () => this.toggle());
    this.scrub.addEventListener("input", () => {
      this.stop();
      go(Number(this.scrub.value));
    });
    new ResizeObserver(() => this.draw()).observe(byId("ticks").parentElement);
  }

  move(by) {
    this.stop();
    this.go(this.count + by);
  }

  show(count, step) {
    this.count = count;
    this.scrub.value = String(count);
    this.scrub.setAttribute("aria-valuetext", `step ${count}: ${step?.what ?? ""}`);
    byId("previous").disabled = count <= 1;
    byId("next").disabled = count >= this.model.steps.length;
  }

  toggle() {
    if (this.timer) this.stop();
    else this.start();
  }

  // Starts playback; from the last step, at the beginning.
  start() {
    this.stop();
    const last = this.model.steps.length;
    if (this.count >= last) this.go(1);
    this.timer = setInterval(() => {
      if (this.count < last) this.go(this.count + 1);
      if (this.count >= last) this.stop();
    }, 1000 / Number(byId("speed").value));
    this.showPlaying(true);
  }

  stop() {
    if (!this.timer) return;
    clearInterval(this.timer);
    this.timer = null;
    this.showPlaying(false);
  }

  showPlaying(isPlaying) {
    byId("play").setAttribute("aria-pressed", String(isPlaying));
    byId("play").setAttribute("aria-label", isPlaying ? "Pause" : "Play");
  }

  draw() {
    const { clientWidth: width } = byId("ticks").parentElement;
    if (!width) return;
    const pen = sharpen(byId("ticks"), width, 8);
    const colour = readColours();
    const last = this.model.steps.length;
    // Marks differ in height as well as in colour. Errors are drawn last, above the others.
    const marks = { waiting: ["waiting", 3], retry: ["retrying", 5], error: ["failed", 8] };
    for (const kind in marks) {
      const [status, height] = marks[kind];
      pen.fillStyle = colour(status);
      this.model.steps.forEach((step, index) => {
        if (!step.events?.some((event) => event.type === kind)) return;
        const part = last < 2 ? 0 : index / (last - 1);
        pen.fillRect(THUMB / 2 + part * (width - THUMB) - 1, 8 - height, 2.5, height);
      });
    }
  }
}
