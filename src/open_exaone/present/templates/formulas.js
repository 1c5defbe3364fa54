
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

/** Appends the text with its formulas as MathML; returns how many there are. */
function appendFormulas(node, text) {
  const scanner = new Formulas(text, { left: MAX_FORMULAS }, false);
  while (scanner.place < text.length && scanner.budget.left > 0) scanner.step();
  for (const part of scanner.out) {
    if (part.type !== "math") node.append(plain(part.text));
    else renderMath(node.appendChild(document.createElement(part.display ? "div" : "span")), part.text, part.display);
  }
  node.append(plain(text.slice(scanner.place)));
  return scanner.out.filter((part) => part.type === "math").length;
}
