// LaTeX to MathML, with Temml (vendor/temml.min.js, MIT). What cannot be read is shown as it was written.

import { plain } from "./dom.js";

const MAX_LATEX = 4000;
const OPTIONS = { throwOnError: true, trust: false, strict: false, maxExpand: 200, maxSize: [20, 200] };
// Environments that would number their lines, in a reply that cannot refer to the numbers.
const NUMBERED = /\\(begin|end)\{(align|alignat|equation|gather|multline)\}/g;
// Attributes that MathML's look needs; a formula sets no id, no address and no handler.
const KEPT = new Set([
  "accent", "class", "columnalign", "columnspan", "depth", "display", "displaystyle", "encoding", "fence", "form", "height",
  "largeop", "linethickness", "lspace", "mathvariant", "maxsize", "minsize", "movablelimits", "notation", "rowspan", "rspace",
  "scriptlevel", "separator", "stretchy", "style", "symmetric", "voffset", "width",
]); // prettier-ignore

/** Puts the formula into the element; the source in the `title`. */
export function renderMath(element, latex, display) {
  const source = latex.trim().replace(NUMBERED, "\\$1{$2*}");
  try {
    if (source.length > MAX_LATEX) throw new RangeError("too long");
    globalThis.temml.render(source, element, { ...OPTIONS, displayMode: display });
    for (const node of element.querySelectorAll("*")) clean(node);
  } catch {
    element.replaceChildren(document.createTextNode(plain(display ? `\\[${latex}\\]` : `\\(${latex}\\)`)));
    element.classList.add("unread");
  }
  element.title = source.slice(0, 500);
}

function clean(node) {
  for (const { name } of [...node.attributes]) if (!KEPT.has(name)) node.removeAttribute(name);
}
