// Sort a table by a column: the buttons in its head say by which, aria-sort says how.
for (const button of document.querySelectorAll("table.sortable th button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th");
    const row = head.parentElement;
    const column = [...row.children].indexOf(head);
    const rising = head.getAttribute("aria-sort") !== "ascending";
    for (const other of row.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", rising ? "ascending" : "descending");
    const body = button.closest("table").tBodies[0];
    const key = (line) => {
      const cell = line.children[column];
      const value = cell.dataset.value;
      return value === undefined ? cell.textContent.trim() : value === "" ? null : Number(value);
    };
    const lines = [...body.rows].sort((left, right) => {
      const [a, b] = [key(left), key(right)];
      if (a === null || b === null) return (a === null) - (b === null);
      const order = typeof a === "number" ? a - b : a.localeCompare(b);
      return rising ? order : -order;
    });
    body.append(...lines);
  });
}
// Where there is little room each row of a wide table becomes a card, and its cells say of which
// column they are. The roles stay those of a table, which browsers forget with another display.
const roles = { TABLE: "table", THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell" };
for (const table of document.querySelectorAll("table.wide")) {
  const heads = [...table.tHead.rows[0].cells];
  const words = heads.map((head) => head.textContent.replace(/([._@])(?=\w)/g, "$1\u200b"));
  for (const part of [table, ...table.querySelectorAll("thead, tbody, tr, td")]) {
    part.setAttribute("role", roles[part.tagName]);
  }
  for (const head of heads) head.setAttribute("role", "columnheader");
  for (const row of table.tBodies[0].rows) {
    row.cells[0].setAttribute("role", "rowheader");
    [...row.cells].forEach((cell, place) => (cell.dataset.head = words[place]));
  }
  table.classList.add("stacked");
}
// Only what scrolls is stopped at by the keyboard.
const regions = document.querySelectorAll(".scroll");
const watch = new ResizeObserver((changed) => {
  for (const { target } of changed) {
    if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
    else target.removeAttribute("tabindex");
  }
});
for (const region of regions) watch.observe(region);
