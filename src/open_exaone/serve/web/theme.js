// Runs before the page is drawn, so that it never flashes in the other colours.
(() => {
  let theme = "auto";
  try {
    theme = JSON.parse(localStorage.getItem("open-exaone.settings"))?.theme ?? "auto";
  } catch {
    // the system's colours
  }
  document.documentElement.dataset.theme = theme;
})();
