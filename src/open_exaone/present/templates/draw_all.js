
// All texts of the page that may hold formulas, one after another; those that are folded away once they are opened.
let turn = Promise.resolve();
for (const source of document.querySelectorAll("[data-latex]")) {
  const draw = () => (turn = turn.then(() => withFormulas(source, { briefly: true })).catch(() => undefined)); // else it stays as it was written
  const fold = source.closest("details:not([open])");
  if (fold) fold.addEventListener("toggle", draw, { once: true });
  else draw();
}
