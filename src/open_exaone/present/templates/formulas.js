"use strict";
// Draws the formulas of texts. The converter stands packed in the page and is unpacked once it is needed; the page's
// content security policy names it by its hash. A text whose formulas cannot be drawn stays as it was written.

const MAY_HOLD = /\$[^$]*\$|\\\(|\\\[|\\boxed\{/;
let converter; // a promise of it

async function unpack(element) {
  const text = element.textContent;
  const bytes = Uint8Array.fromBase64 ? Uint8Array.fromBase64(text) : Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

async function load() {
  const packed = document.querySelector('script[data-kind="formulas"]');
  const code = packed ? await unpack(packed) : await globalThis.fetchConverter?.(); // the page of a run that goes has it elsewhere
  if (!code) return undefined;
  const script = document.createElement("script");
  script.textContent = code;
  document.head.append(script);
  script.remove();
  return globalThis.drawFormulas;
}

/** Draws an element's formulas, and folds the element, which has their source, below. `briefly`: without it for a mere \boxed{5}. */
async function withFormulas(source, { isOpen = false, briefly = false } = {}) {
  if (!MAY_HOLD.test(source.textContent)) return;
  const draw = globalThis.drawFormulas ?? (await (converter ??= load()));
  if (!draw) return;
  const drawn = source.cloneNode(false);
  const fragments = [];
  for (const node of textsOf(source)) {
    const fragment = typeof node === "string" ? await draw(node) : null;
    if (fragment) fragments.push(fragment);
    drawn.append(fragment ?? node);
  }
  if (!fragments.length || !source.isConnected) return;
  drawn.removeAttribute("data-latex");
  drawn.classList.add("formulas");
  const [details, summary] = [document.createElement("details"), document.createElement("summary")];
  details.className = "source";
  details.open = isOpen;
  summary.textContent = "LaTeX source";
  source.replaceWith(drawn);
  if (!briefly || fragments.some(({ isPlain }) => !isPlain)) {
    drawn.after(details);
    details.append(summary, source);
  }
  for (const node of drawn.querySelectorAll(".display, .wide")) if (node.scrollWidth > node.clientWidth) node.tabIndex = 0;
}

/** What an element holds: texts, whatever is marked in them, and copies of the sentences that stand between them. */
function textsOf(element) {
  const found = [""];
  for (const node of element.childNodes) {
    if (node.className === "left-out") found.push(node.cloneNode(true), "");
    else found.push(found.pop() + node.textContent);
  }
  return found;
}
