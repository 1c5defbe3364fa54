"use strict";
// Sorts and filters the tables of a leaderboard's page. Without it they stand as they were written.

const LEAST_ROWS = 5; // a shorter table needs no filter
const number = (cell) => (cell.dataset.v === undefined ? null : Number(cell.dataset.v));
const words = new Intl.Collator(document.documentElement.lang, { numeric: true, sensitivity: "base" });

function compare(kind, place, sign) {
  return (one, other) => {
    const [a, b] = [one.cells[place], other.cells[place]];
    if (kind !== "number") return sign * words.compare(a.textContent, b.textContent);
    const [x, y] = [number(a), number(b)];
    if (x === null || y === null) return (x === null) - (y === null); // no number stands last, either way
    return sign * (x - y);
  };
}

function sort(table, head, place) {
  const kind = head.dataset.kind;
  const now = head.getAttribute("aria-sort");
  const first = kind === "number" ? "descending" : "ascending";
  const next = !now ? first : now === "ascending" ? "descending" : "ascending";
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", next);
  const body = table.tBodies[0];
  body.append(...[...body.rows].sort(compare(kind, place, next === "ascending" ? 1 : -1)));
}

function filter(form, table) {
  const wanted = Object.fromEntries(new FormData(form));
  const terms = wanted.q.toLowerCase().split(/\s+/).filter(Boolean);
  delete wanted.q;
  const rows = [...table.tBodies[0].rows];
  let shown = 0;
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    const fits = terms.every((term) => text.includes(term)) &&
      Object.entries(wanted).every(([name, value]) => value === "" || row.dataset[name] === value);
    row.hidden = !fits;
    shown += fits;
  }
  const status = form.querySelector("[role=status]");
  status.textContent = status.dataset.text.replace("%n", shown).replace("%all", rows.length);
}

for (const board of document.querySelectorAll(".board")) {
  const [form, table] = [board.querySelector("form"), board.querySelector("table")];
  [...table.tHead.rows[0].cells].forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = head.dataset.sort;
    button.textContent = head.textContent;
    button.addEventListener("click", () => sort(table, head, place));
    head.replaceChildren(button);
  });
  form.hidden = table.tBodies[0].rows.length < LEAST_ROWS;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => filter(form, table));
  filter(form, table);
}
