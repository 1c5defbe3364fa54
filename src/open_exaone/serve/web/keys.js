// Keyboard shortcuts of the whole page; the list of them is in index.html.

import { by } from "./dom.js";

const writing = (element) => element?.matches?.("textarea, select, input:not([type=range], [type=checkbox])");

/** `actions`: escape, startNew, toggleThought, editLast, continueLast, search. */
export function bindKeys(actions) {
  addEventListener("keydown", (event) => {
    if (event.isComposing || event.keyCode === 229) return;
    const action = chosen(event, actions);
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function chosen(event, actions) {
  if (document.querySelector("dialog[open]")) return null; // a dialog closes itself on Escape
  const command = event.ctrlKey || event.metaKey;
  if (event.key === "Escape") return actions.escape;
  if (command && event.shiftKey && event.code === "KeyO") return actions.startNew;
  if (command && !event.shiftKey && event.code === "KeyK") return actions.search;
  if (event.altKey && event.code === "KeyT") return actions.toggleThought;
  if (event.altKey && event.code === "KeyC") return actions.continueLast;
  if (event.key === "ArrowUp" && event.target === by("input") && !by("input").value) return actions.editLast;
  if (event.key === "?" && !writing(event.target)) return () => by("shortcuts").showModal();
  return null;
}
