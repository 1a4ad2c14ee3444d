"use strict";
// The table of scans: sorted by a click on a head, filtered by name and state.
(function () {
  const byId = (id) => document.getElementById(id);
  const body = document.querySelector("#scans tbody");
  const heads = [...document.querySelectorAll("#scans th")];
  const rows = [...body.rows];

  const value = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  const collator = new Intl.Collator(undefined, { numeric: true });
  function compare(a, b) {
    const isNumber = a !== "" && b !== "" && isFinite(a) && isFinite(b);
    return isNumber ? Number(a) - Number(b) : collator.compare(a, b);
  }

  function sort(column) {
    const up = heads[column].getAttribute("aria-sort") !== "ascending";
    for (const head of heads) head.removeAttribute("aria-sort");
    heads[column].setAttribute("aria-sort", up ? "ascending" : "descending");
    const keyed = rows.map((row, place) => ({ row, place, key: value(row, column) }));
    keyed.sort((a, b) => (up ? 1 : -1) * compare(a.key, b.key) || a.place - b.place);
    body.append(...keyed.map((one) => one.row));
  }
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (button) button.addEventListener("click", () => sort(column));
  });

  function filter() {
    const part = byId("name").value.toLowerCase();
    const state = byId("state").value;
    let shown = 0;
    for (const row of rows) {
      const fits = value(row, 1).toLowerCase().includes(part) && (!state || row.dataset.state === state);
      row.hidden = !fits;
      shown += fits;
    }
    byId("shown").textContent = shown === rows.length ? "" : `${shown} of ${rows.length} shown`;
  }
  byId("name").addEventListener("input", filter);
  byId("state").addEventListener("change", filter);
  filter(); // a reloaded page keeps what was typed
})();
