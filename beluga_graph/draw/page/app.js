// Connects the parts of the page. One step is shown at a time; one node may be selected.

const THEMES = ["auto", "light", "dark"];

class App {
  constructor({ head, steps, depth, signs }) {
    const model = new Model({ head, steps, signs });
    this.model = model;
    this.last = model.steps.length;
    this.state = copyState(model.keyframes[0]);
    this.depth = depth;
    this.graph = new GraphView(model, depth, (id) => this.choose(id));
    this.panel = new Panel(model, { go: (count) => this.go(count), choose: (id) => this.choose(id) });
    if (model.hasRun) {
      for (const id of ["run", "status", "facts", "transport", "timeline"]) byId(id).toggleAttribute("hidden", false);
      this.transport = new Transport(model, (count) => this.go(count));
      this.timeline = new Timeline(model, (count) => this.go(count));
    }
    this.events = new Events(model, {
      go: (count) => this.go(count),
      choose: (id) => this.choose(id),
      onFound: (ids) => this.highlight(ids),
    });
    document.documentElement.classList.toggle("no-run", !model.hasRun);
    byId("legend").open = !model.hasRun;
    this.fillHead();
    this.fillFold();
    this.listen();
    if (model.hasRun) this.render(this.readAddress() ?? this.last);
    document.documentElement.dataset.ready = "true";
  }

  // Shows the state after `count` steps, at most once for each frame of the screen.
  go(count) {
    const next = Math.max(Math.min(1, this.last), Math.min(this.last, count));
    if (this.wanted === undefined) requestAnimationFrame(() => this.render(this.wanted));
    this.wanted = next;
    if (this.transport) this.transport.count = next;
  }

  render(count) {
    this.wanted = undefined;
    this.state = this.model.seek(this.state, count);
    const step = this.model.steps[count - 1];
    const at = step?.node ?? null;
    this.graph.show(this.state, at);
    this.graph.mark();
    if (at) this.graph.reveal(at);
    this.transport.show(count, step);
    this.timeline.show(this.state);
    if (step) {
      this.timeline.follow(step);
      this.panel.showStep(step, this.state);
    }
    this.events.follow(count);
    this.showHead(count);
    document.documentElement.dataset.step = String(count);
    this.updateAddress(count);
  }

  choose(id) {
    this.graph.chosen = id;
    this.graph.mark();
    this.panel.showNode(id);
    this.panel.selectTab(id === null && this.model.hasRun ? "step" : "node");
    this.events.filterByNode(id);
  }

  highlight(ids) {
    this.graph.found = ids;
    this.graph.markFound();
  }

  fillHead() {
    const { head } = this.model;
    byId("flow").textContent = head.flow;
    if (!this.model.hasRun) return;
    byId("run").textContent = head.run;
    byId("fact-total").textContent = formatDuration(this.model.steps.at(-1)?.at ?? 0);
  }

  showHead(count) {
    const { state } = this;
    setText(byId("fact-step"), `${count.toLocaleString("en")} / ${this.last.toLocaleString("en")}`);
    setText(byId("fact-time"), formatDuration(state.at));
    setText(byId("fact-tokens"), state.tokens.toLocaleString("en"));
    byId("fact-tokens").parentElement.toggleAttribute("hidden", this.model.state.tokens === 0);
    setText(byId("status"), state.status);
    byId("status").className = `pill is-${state.status}`;
  }

  // Adds a button for each depth, unless there is nothing to fold.
  fillFold() {
    const { length } = this.graph.drawings;
    if (length < 2) return;
    byId("fold").toggleAttribute("hidden", false);
    for (let depth = 0; depth < length; depth += 1) {
      const text = depth === 0 ? "folded" : depth === length - 1 ? "all" : String(depth);
      byId("fold").append(make("button", { type: "button", text, "data-fold": depth, on: { click: () => this.fold(depth) } }));
    }
    this.fold(this.depth);
  }

  fold(depth) {
    this.graph.openTo(depth);
    for (const button of byId("fold").children) {
      button.setAttribute("aria-pressed", String(Number(button.dataset.fold) === this.graph.depth));
    }
  }

  // Puts the step into the address, so that a link or a reload shows it. Delayed, because browsers limit such changes.
  updateAddress(count) {
    if (!/^(file|https?):$/.test(location.protocol)) return; // embedded in another page, it has no address of its own
    clearTimeout(this.addressTimer);
    this.addressTimer = setTimeout(() => history.replaceState(null, "", `#step=${count}`), 400);
  }

  readAddress() {
    const found = /^#step=(\d+)$/.exec(location.hash);
    return found ? Math.max(1, Math.min(this.last, Number(found[1]))) : null;
  }

  listen() {
    byId("theme").addEventListener("click", () => this.switchTheme());
    for (const media of ["(prefers-color-scheme: dark)", "(forced-colors: active)", "print"]) {
      matchMedia(media).addEventListener("change", () => this.recolour());
    }
    byId("help").addEventListener("click", () => byId("keys").showModal());
    window.addEventListener("hashchange", () => this.model.hasRun && this.readAddress() && this.go(this.readAddress()));
    document.addEventListener("keydown", (event) => this.onKey(event));
  }

  switchTheme() {
    const theme = THEMES[(THEMES.indexOf(byId("theme").textContent) + 1) % THEMES.length];
    byId("theme").textContent = theme;
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    this.recolour();
  }

  recolour() {
    this.timeline?.recolour();
    this.transport?.draw();
  }

  // Handles the keys of the whole page, except while an input or a button has the focus.
  onKey(event) {
    const { target } = event;
    if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
    if (target.matches("input[type=search], select") && event.key !== "Escape") return;
    if (event.key === " " && target.matches("button, summary")) return;
    const act = this.listActions(target)[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  listActions(target) {
    const keys = {
      Escape: () => this.clearSelection(target),
      "/": () => byId("search").focus(),
      "?": () => byId("keys").showModal(),
      "+": () => this.graph.zoomTo(this.graph.scale * 1.25),
      "-": () => this.graph.zoomTo(this.graph.scale / 1.25),
      0: () => this.graph.fit(),
      "[": () => this.fold(this.graph.depth - 1),
      "]": () => this.fold(this.graph.depth + 1),
    };
    if (this.transport) {
      keys[" "] = () => this.transport.toggle();
      if (!target.matches("#scrub, [role=tabpanel], pre")) { // these elements have arrow keys of their own
        keys.ArrowLeft = () => this.transport.move(-1);
        keys.ArrowRight = () => this.transport.move(1);
        keys.Home = () => this.transport.move(-Infinity);
        keys.End = () => this.transport.move(Infinity);
      }
    }
    return keys;
  }

  clearSelection(target) {
    if (byId("search").value) {
      byId("search").value = "";
      this.events.search("");
    } else {
      this.choose(null);
    }
    if (target === byId("search")) target.blur();
  }
}

new App(JSON.parse(byId("model").textContent));
