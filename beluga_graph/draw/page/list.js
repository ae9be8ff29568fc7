// A list with rows of equal height. It creates only the rows in view, so that it can have a hundred thousand.

const SPARE = 6; // rows created beyond each edge of the view

class VirtualList {
  // `draw(row, item)` fills a row; `choose(index)` is called with the row that was clicked or reached by keys.
  constructor(element, { height, draw, choose }) {
    Object.assign(this, { element, height, draw, choose, items: [], chosen: -1, rows: new Map() });
    this.room = make("div", { class: "room", role: "presentation" });
    element.append(this.room);
    element.addEventListener("scroll", () => this.refresh(), { passive: true });
    element.addEventListener("keydown", (event) => this.onKey(event));
    element.addEventListener("click", (event) => {
      const row = event.target.closest("[data-row]");
      if (row) this.choose(Number(row.dataset.row));
    });
    new ResizeObserver(() => this.refresh()).observe(element);
  }

  show(items) {
    this.items = items;
    this.chosen = -1;
    this.rows.forEach((row) => row.remove());
    this.rows.clear();
    this.room.style.height = `${items.length * this.height}px`;
    this.element.scrollTop = 0;
    this.refresh();
  }

  // Selects a row, and brings it into view.
  select(index) {
    this.mark(this.chosen, false);
    this.chosen = index;
    if (index >= 0) {
      const [top, view] = [index * this.height, this.element.clientHeight];
      const scrolled = this.element.scrollTop;
      if (top < scrolled || top + this.height > scrolled + view) this.element.scrollTop = top - view / 2 + this.height / 2;
    }
    this.refresh();
    this.mark(index, true);
  }

  mark(index, isChosen) {
    const row = this.rows.get(index);
    if (!row) return;
    row.setAttribute("aria-selected", String(isChosen));
    if (isChosen) this.element.setAttribute("aria-activedescendant", row.id);
  }

  refresh() {
    const top = this.element.scrollTop;
    const first = Math.max(0, Math.floor(top / this.height) - SPARE);
    const last = Math.min(this.items.length, Math.ceil((top + this.element.clientHeight) / this.height) + SPARE);
    for (const [index, row] of this.rows) {
      if (index >= first && index < last) continue;
      row.remove();
      this.rows.delete(index);
    }
    for (let index = first; index < last; index += 1) if (!this.rows.has(index)) this.add(index);
  }

  add(index) {
    const row = make("div", {
      id: `${this.element.id}-${index}`,
      class: "row",
      role: "option",
      "data-row": index,
      "aria-selected": String(index === this.chosen),
      "aria-posinset": index + 1,
      "aria-setsize": this.items.length,
    });
    row.style.transform = `translateY(${index * this.height}px)`;
    this.draw(row, this.items[index]);
    this.rows.set(index, row);
    this.room.append(row);
  }

  onKey(event) {
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.height) - 1);
    const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const move = moves[event.key];
    const isSame = event.key === "Enter" || event.key === " ";
    if ((move === undefined && !isSame) || this.items.length === 0) return;
    event.preventDefault();
    event.stopPropagation();
    const index = Math.min(this.items.length - 1, Math.max(0, this.chosen + (move ?? 0)));
    this.select(index);
    this.choose(index);
  }
}
