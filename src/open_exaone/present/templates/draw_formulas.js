
const MAX_FORMULAS = 500; // drawn in one text
const MAX_DRAWN_CHARS = 40_000; // of their LaTeX
const SLICE_MS = 25; // drawn in one go, before the reader has a turn
const WIDE_LATEX = 60; // characters of a formula in a line that may be wider than the page

/** The web chat's rules for what is a formula (serve/web/inline.js), without the rest of Markdown. */
class Formulas extends Scanner {
  step() {
    const { source, place } = this;
    const special = /[\\$`]/g;
    special.lastIndex = place;
    const end = special.exec(source)?.index ?? source.length;
    if (end > place) return this.text(source.slice(place, end));
    if (source[place] === "$" && this.dollar()) return true;
    if (source[place] === "`" && this.code()) return Object.assign(this.out.at(-1), { type: "text", text: source.slice(place, this.place) });
    if (/\\(?:[([]|boxed\{)/y.test(source.slice(place, place + 7)) && this.backslash()) return true;
    return this.text(source.slice(place, place + (source[place] === "\\" ? 2 : 1)));
  }
}

/** The parts of a text, its formulas among them; what is beyond the limits is text. */
function partsOf(text) {
  const scanner = new Formulas(text, { left: MAX_FORMULAS }, false);
  let left = MAX_DRAWN_CHARS;
  while (scanner.place < text.length && scanner.budget.left > 0 && left > 0) {
    const from = scanner.place;
    scanner.step();
    const last = scanner.out.at(-1);
    if (last.type !== "math" || last.source) continue;
    last.source = text.slice(from, scanner.place);
    left -= last.source.length;
  }
  scanner.text(text.slice(scanner.place));
  return merged(scanner.out);
}

/** A formula's element; its source, as it was written, where it cannot be read. */
function mathOf({ text, display, source }) {
  const node = document.createElement("span");
  node.className = display ? "math display" : text.length > WIDE_LATEX ? "math wide" : "math";
  renderMath(node, text, display);
  return node.classList.contains("unread") ? source : node;
}

/** The text with its formulas as MathML, as a fragment; null where none is drawn. `isPlain`: they are boxes around plain text. */
async function drawFormulas(text) {
  const parts = partsOf(plain(text));
  const fragment = new DocumentFragment();
  let since = performance.now();
  for (const [place, part] of parts.entries()) {
    if (part.type === "math") fragment.append(mathOf(part));
    else {
      // A formula that stands alone begins and ends a line by itself.
      const from = parts[place - 1]?.display && part.text.startsWith("\n") ? 1 : 0;
      fragment.append(part.text.slice(from, parts[place + 1]?.display && part.text.endsWith("\n") ? -1 : undefined));
    }
    if (performance.now() - since < SLICE_MS) continue;
    await new Promise((go) => setTimeout(go));
    since = performance.now();
  }
  const isPlain = parts.every((part) => part.type !== "math" || /^\\boxed\{[^\\{}]*\}$/.test(part.text));
  return fragment.firstElementChild && Object.assign(fragment, { isPlain });
}
