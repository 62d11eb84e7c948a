// Sorts a table by the column whose head is clicked; a second click turns the order round.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const key = row => row.cells[column].dataset.v ?? row.cells[column].textContent;
    const order = (a, b) => key(a) - key(b) || key(a).localeCompare(key(b), undefined, { numeric: true });
    const rows = [...body.rows].sort(order);
    body.append(...(up ? rows : rows.reverse()));
  }));
}
for (const section of document.querySelectorAll("section")) {
  const runs = section.querySelectorAll("[data-run]");
  // A mark or row that is clicked is chosen, with the others of its run; a mark shows its row, too.
  for (const run of runs) {
    run.addEventListener("click", () => {
      for (const other of runs) other.classList.toggle("chosen", other.dataset.run === run.dataset.run);
      if (run.tagName === "circle") section.querySelector("tr.chosen").scrollIntoView({ block: "center" });
    });
  }
  // A method of the legend that is clicked hides its marks, or shows them again.
  for (const button of section.querySelectorAll("button[data-method]")) {
    button.addEventListener("click", () => {
      const hide = button.getAttribute("aria-pressed") !== "true";
      button.setAttribute("aria-pressed", hide);
      for (const mark of section.querySelectorAll(`circle[data-method="${button.dataset.method}"]`)) {
        mark.style.display = hide ? "none" : "";
      }
    });
  }
}
