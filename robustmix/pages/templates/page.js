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
