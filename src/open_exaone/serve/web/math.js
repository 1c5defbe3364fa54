// LaTeX to MathML, with Temml (vendor/temml.min.js, MIT). What cannot be read is shown as it was written.

import { plain } from "./dom.js";

const MAX_LATEX = 4000;
// A macro repeats its text wherever it is used: a formula that defines one is short, and uses few.
const DEFINES = /\\(?:[egx]?def|(?:future)?let|(?:new|renew|provide)command)(?![a-zA-Z])/;
const MAX_DEFINING = 500;
const MAX_ELEMENTS = 5000; // of a formula
const MAX_WITHIN = 100; // elements within each other: layout is recursive
const OPTIONS = { throwOnError: true, trust: false, strict: false, maxSize: [20, 200] };
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
  const source = plain(latex.trim()).replace(NUMBERED, "\\$1{$2*}");
  try {
    element.replaceChildren(...read(source, display));
  } catch {
    element.replaceChildren(document.createTextNode(plain(display ? `\\[${latex}\\]` : `\\(${latex}\\)`)));
    element.classList.add("unread");
  }
  element.title = source.slice(0, 500);
}

/** The formula's elements; throws where it cannot be read, or is so large that it would hold up the page. */
function read(source, displayMode) {
  const defines = DEFINES.test(source);
  if (source.length > (defines ? MAX_DEFINING : MAX_LATEX)) throw new RangeError("too long");
  const drawn = document.createElement("span"); // outside of the page: nothing is laid out yet
  globalThis.temml.render(source, drawn, { ...OPTIONS, displayMode, maxExpand: defines ? 50 : 200 });
  const depths = new Map([[drawn, 0]]);
  for (const node of drawn.querySelectorAll("*")) {
    depths.set(node, depths.get(node.parentNode) + 1);
    if (depths.size > MAX_ELEMENTS || depths.get(node) > MAX_WITHIN) throw new RangeError("too large");
    clean(node);
  }
  return drawn.childNodes;
}

function clean(node) {
  for (const { name } of [...node.attributes]) if (!KEPT.has(name)) node.removeAttribute(name);
  if (!node.children.length) node.textContent = plain(node.textContent); // \char can name any character
}
