// Tables: a click on a heading sorts the rows, a field above a long table keeps those that hold a text.
(() => {
  "use strict";
  const LONG = 12; // rows from which on a table has a field

  // The first number of a cell: "0.41 [0.30, 0.52]" is 0.41; a cell without one comes last.
  const number = (text) => {
    const found = /^[^\d\-−+.]{0,8}([-−+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?)/i.exec(text.trim());
    return found ? parseFloat(found[1].replace("−", "-").replaceAll(",", "")) : NaN;
  };

  const sort = (table, column, heading) => {
    const body = table.tBodies[0];
    const down = heading.getAttribute("aria-sort") === "descending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "ascending" : "descending");
    const sign = down ? 1 : -1;
    const rows = [...body.rows].map((row, i) => {
      const text = row.cells[column].textContent;
      return { row, i, text, value: number(text) };
    });
    const words = rows.filter((one) => Number.isNaN(one.value)).length > rows.length / 2;
    const missing = (one) => !words && Number.isNaN(one.value);
    rows.sort((a, b) => {
      if (missing(a) || missing(b)) return missing(a) - missing(b) || a.i - b.i;
      const order = words ? a.text.localeCompare(b.text, "en", { numeric: true }) : a.value - b.value;
      return sign * order || a.i - b.i;
    });
    table.classList.add("flat"); // a row no longer stands below its like
    body.append(...rows.map((one) => one.row));
  };

  const search = (table) => {
    const field = document.createElement("input");
    field.type = "search";
    field.placeholder = `filter ${table.tBodies[0].rows.length} rows`;
    field.className = "find";
    field.addEventListener("input", () => {
      table.classList.add("flat");
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of table.tBodies[0].rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
      }
    });
    (table.closest(".wide") || table).before(field);
  };

  // Paper cannot be unfolded.
  window.addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details:not(.vega-embed *)")) folded.open = true;
  });

  for (const table of document.querySelectorAll("table.numbers, table.jobs")) {
    const head = table.tHead;
    if (!head || table.tBodies[0].rows.length < 2) continue;
    [...head.rows[0].cells].forEach((heading, column) => {
      const button = document.createElement("button");
      button.className = "sort";
      button.title = "sort";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => sort(table, column, heading));
    });
    if (table.tBodies[0].rows.length >= LONG) search(table);
  }
})();
