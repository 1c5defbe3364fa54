
// Asks for this page again and again, and puts in the parts that changed. Nothing of it is ever run.
const PAUSE_MS = 2000;
const PARTS = ["head", "stages", "log", "scores", "curves", "rollouts"];
const FOCUSABLE = "a, summary, [tabindex]";
const by = (id) => document.getElementById(id);
const sent = new Map(PARTS.map((id) => [id, by(id).innerHTML])); // each part as it came, before its formulas were drawn
let version = "";

globalThis.fetchConverter = async () => (await fetch("formulas.js")).text();

/** Draws the formulas of a part's texts, of a folded one once it is opened. */
function draw(part) {
  for (const source of part.querySelectorAll("[data-latex]")) {
    const go = () => withFormulas(source, { briefly: true }).catch(() => undefined); // else it stays as it was written
    const fold = source.closest("details:not([open])");
    if (fold) fold.addEventListener("toggle", go, { once: true });
    else go();
  }
}

/** Whether the reader is at something in a part that must not go away: an open sample, or a text that is selected. */
function isInUse(part) {
  const selection = getSelection();
  const isSelected = !selection.isCollapsed && selection.containsNode(part, true);
  return isSelected || ("keepsOpen" in part.dataset && part.querySelector("details[open]") !== null);
}

/** Puts a part's new content in; what was open, scrolled or in focus stays so. */
function replace(old, fresh) {
  const open = [...old.querySelectorAll("details")].map((node) => node.open);
  const scrolled = [...old.querySelectorAll(".scroll")].map((node) => node.scrollLeft);
  const focus = [...old.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
  old.replaceChildren(...document.importNode(fresh, true).childNodes);
  old.querySelectorAll("details").forEach((node, place) => (node.open = open[place] ?? false));
  old.querySelectorAll(".scroll").forEach((node, place) => (node.scrollLeft = scrolled[place] ?? 0));
  if (focus >= 0) old.querySelectorAll(FOCUSABLE)[focus]?.focus({ preventScroll: true });
  draw(old);
}

/** Takes what changed; whether all of it was taken. */
function take(next) {
  document.title = next.title;
  const read = document.elementFromPoint(innerWidth / 2, innerHeight / 2)?.closest("#head, main > section");
  const top = read?.getBoundingClientRect().top;
  let isWhole = true;
  for (const id of PARTS) {
    const [old, fresh] = [by(id), next.getElementById(id)];
    if (!fresh || sent.get(id) === fresh.innerHTML) continue;
    if (isInUse(old)) isWhole = false;
    else {
      sent.set(id, fresh.innerHTML);
      replace(old, fresh);
    }
  }
  if (read) scrollBy(0, read.getBoundingClientRect().top - top); // what is read stays where it is
  return isWhole;
}

async function ask() {
  const lost = by("lost");
  try {
    const answer = await fetch(location.href, { cache: "no-store" });
    const found = answer.headers.get("etag") ?? "";
    if (answer.ok && (found === "" || found !== version)) {
      const isWhole = take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      version = isWhole ? found : "";
    }
    lost.textContent = answer.ok ? "" : "This page cannot be refreshed: see what exaone watch prints.";
  } catch {
    lost.textContent = "exaone watch has ended, or cannot be reached: this page shows its last state.";
  }
  document.documentElement.dataset.asked = Number(document.documentElement.dataset.asked ?? 0) + 1;
  setTimeout(ask, PAUSE_MS);
}

PARTS.forEach((id) => draw(by(id)));
setTimeout(ask, PAUSE_MS);
