// Inline Markdown and mathematics to plain objects. No HTML is read: a tag is text. Every step is linear in the text.
//
// Nodes: {type: "text" | "code", text}, {type: "math", text, display}, {type: "break"},
//        {type: "strong" | "em" | "del" | "link", children, href?}

const MAX_MATH = 4000; // characters of one formula
const MAX_BOXED = 500;
const MAX_TRIED = 12; // dollar signs that may turn out not to close a formula
const MAX_OPEN = 32; // delimiters that wait for their other half
const MAX_DEPTH = 12; // emphasis within emphasis
const PLAIN = /(?:[^\\`*_~$[!<&\nh]|h(?!ttps?:)|!(?!\[))+/y;
const ADDRESS = /https?:\/\/[^\s<>"'`\u3000-\u9fff\uac00-\ud7af]{1,2000}/y;
const TARGET = /\(\s*<?([^\s<>()]{0,2000}(?:\([^\s<>()]{0,500}\)[^\s<>()]{0,500}){0,8})>?(?:\s+(?:"[^"\n]{0,300}"|'[^'\n]{0,300}'))?\s*\)/y;
const ENTITY = /&(amp|lt|gt|quot|nbsp|#39);/y;
const ENTITIES = { amp: "&", lt: "<", gt: ">", quot: '"', nbsp: "\u00a0", "#39": "'" };
const WORD = /[\p{L}\p{N}_]/u;

/** The address where it is one that may be followed (http, https, mailto), else null. */
export function safeAddress(address) {
  try {
    const url = new URL(address);
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** Parses inline Markdown. `budget.left` counts down the nodes other than text; when it is used up, the rest is text. */
export function parseInline(text, budget = { left: 5000 }, inLink = false) {
  const scanner = new Scanner(text, budget, inLink);
  while (scanner.place < text.length) {
    if (budget.left <= 0) {
      scanner.text(text.slice(scanner.place));
      break;
    }
    scanner.step();
  }
  return merged(scanner.out);
}

class Scanner {
  constructor(source, budget, inLink) {
    Object.assign(this, { source, budget, inLink, place: 0, out: [], open: [] });
    this.nexts = new Map(); // what was looked for -> where it was found
    this.brackets = null;
  }

  step() {
    const { source, place } = this;
    PLAIN.lastIndex = place;
    const plain = PLAIN.exec(source);
    if (plain) return this.text(plain[0]);
    const taken = {
      "\\": () => this.backslash(),
      "`": () => this.code(),
      $: () => this.dollar(),
      "[": () => this.link(place),
      "!": () => source[place + 1] === "[" && this.link(place + 1),
      "<": () => this.angle(),
      "&": () => this.entity(),
      "\n": () => this.newline(),
      h: () => this.address(),
      "*": () => this.delimiter(),
      _: () => this.delimiter(),
      "~": () => this.delimiter(),
    }[source[place]]?.();
    if (!taken) this.text(source[place]);
  }

  text(text) {
    this.add({ type: "text", text }, text.length);
    return true;
  }

  add(node, length) {
    this.out.push(node);
    if (node.type !== "text") this.budget.left--;
    this.place += length;
    return true;
  }

  /** Where `what` next stands at or after `from`; each is searched for once for the whole text. */
  next(what, from) {
    const known = this.nexts.get(what);
    if (known !== undefined && (known === -1 || known >= from)) return known;
    const found = this.source.indexOf(what, from);
    this.nexts.set(what, found);
    return found;
  }

  math(opening, closing, display) {
    const from = this.place + opening.length;
    const end = this.next(closing, from);
    if (end === -1 || end - from > MAX_MATH || !this.source.slice(from, end).trim()) return false;
    return this.add({ type: "math", text: this.source.slice(from, end), display }, end + closing.length - this.place);
  }

  backslash() {
    const next = this.source[this.place + 1];
    if (next === "(" && this.math("\\(", "\\)", false)) return true;
    if (next === "[" && this.math("\\[", "\\]", true)) return true;
    if (this.source.startsWith("boxed{", this.place + 1)) return this.boxed();
    if (next === "(" || next === "[") return this.text(`\\${next}`); // a formula that is not closed (yet)
    if (next === "\n") return this.add({ type: "break" }, 2);
    if (next && /[!-/:-@[-`{-~]/.test(next)) return this.add({ type: "text", text: next }, 2);
    return false;
  }

  /** \boxed{…} outside of a formula, as models write their final answers. */
  boxed() {
    const { source, place } = this;
    const last = Math.min(source.length, place + MAX_BOXED);
    for (let i = place + 6, depth = 0; i < last; i++) {
      if (source[i] === "\\") i++;
      else if (source[i] === "{") depth++;
      else if (source[i] === "}" && --depth === 0) {
        return this.add({ type: "math", text: source.slice(place, i + 1), display: false }, i + 1 - place);
      }
    }
    return false;
  }

  dollar() {
    const { source, place } = this;
    if (source[place + 1] === "$") return this.math("$$", "$$", true);
    if (!source[place + 1] || /\s/.test(source[place + 1])) return false;
    // As Pandoc: no space before the closing sign and no digit after it, so that "$5 and $10" are sums of money.
    const last = Math.min(source.length, place + MAX_MATH);
    let end = this.next("$", place + 1);
    for (let tried = 0; tried < MAX_TRIED && end !== -1 && end < last; tried++, end = source.indexOf("$", end + 1)) {
      if (/[\s\\]/.test(source[end - 1]) || /\d/.test(source[end + 1] ?? "")) continue;
      return this.add({ type: "math", text: source.slice(place + 1, end), display: false }, end + 1 - place);
    }
    return false;
  }

  code() {
    const { source, place } = this;
    const ticks = /`+/y;
    ticks.lastIndex = place;
    const run = ticks.exec(source)[0];
    const end = this.run(run.length, place + run.length);
    if (end === -1) return this.text(run);
    const inner = source.slice(place + run.length, end).replace(/\n/g, " ");
    const trimmed = /^ .*\S.* $/.test(inner) ? inner.slice(1, -1) : inner;
    return this.add({ type: "code", text: trimmed }, end + run.length - place);
  }

  /** Where a run of exactly `length` backticks begins, at or after `from`. */
  run(length, from) {
    const key = `run ${length}`;
    const known = this.nexts.get(key);
    if (known !== undefined && (known === -1 || known >= from)) return known;
    const runs = /`+/g;
    runs.lastIndex = from;
    let found = -1;
    for (let match; found === -1 && (match = runs.exec(this.source)); ) if (match[0].length === length) found = match.index;
    this.nexts.set(key, found);
    return found;
  }

  link(bracket) {
    if (this.inLink) return false;
    this.brackets ??= matching(this.source);
    const end = this.brackets.get(bracket);
    if (end === undefined) return false;
    TARGET.lastIndex = end + 1;
    const target = TARGET.exec(this.source);
    const href = target && safeAddress(target[1]);
    if (!href) return false;
    const label = this.source.slice(bracket + 1, end);
    const children = parseInline(label, this.budget, true); // an image is a link too: nothing is loaded from elsewhere
    return this.add(link(href, label.trim() ? children : null), end + 1 + target[0].length - this.place);
  }

  address() {
    if (this.inLink || WORD.test(this.source[this.place - 1] ?? "")) return false;
    ADDRESS.lastIndex = this.place;
    const found = ADDRESS.exec(this.source)?.[0].replace(/[.,;:!?*_~)\]}|]+$/, "");
    const href = found && safeAddress(found);
    return href ? this.add(link(href, [{ type: "text", text: found }]), found.length) : false;
  }

  angle() {
    const tag = /<(?:(br)\s*\/?|(https?:\/\/[^\s<>]{1,2000}|mailto:[^\s<>]{1,300}))>/y;
    tag.lastIndex = this.place;
    const found = tag.exec(this.source);
    if (!found) return false;
    if (found[1]) return this.add({ type: "break" }, found[0].length);
    const href = safeAddress(found[2]);
    return href && !this.inLink ? this.add(link(href, [{ type: "text", text: found[2] }]), found[0].length) : false;
  }

  entity() {
    ENTITY.lastIndex = this.place;
    const found = ENTITY.exec(this.source);
    return found ? this.add({ type: "text", text: ENTITIES[found[1]] }, found[0].length) : false;
  }

  newline() {
    return this.add({ type: "break" }, 1);
  }

  /** A run of *, _ or ~. Unlike CommonMark, punctuation does not matter beside *, so that **강조(强調)**는 works. */
  delimiter() {
    const { source, place } = this;
    const sign = source[place];
    let count = 1;
    while (source[place + count] === sign) count++;
    if (sign === "~" && count !== 2) return this.text(source.slice(place, place + count));
    const before = source[place - 1] ?? " ";
    const after = source[place + count] ?? " ";
    const inWord = sign === "_" && WORD.test(before) && WORD.test(after);
    const run = { sign, count, canOpen: /\S/.test(after) && !inWord, canClose: /\S/.test(before) && !inWord };
    if (sign === "_") {
      run.canOpen &&= !WORD.test(before);
      run.canClose &&= !WORD.test(after);
    }
    this.place += count;
    if (run.canClose) this.close(run);
    if (run.count) this.wait(run);
    return true;
  }

  close(run) {
    for (let i = this.open.length - 1; i >= 0 && run.count; i--) {
      const opener = this.open[i];
      if (opener.sign !== run.sign || this.out.length === opener.index + 1) continue;
      const used = run.sign === "~" || Math.min(run.count, opener.count) >= 2 ? 2 : 1;
      const children = this.out.splice(opener.index + 1);
      const depth = 1 + children.reduce((most, child) => Math.max(most, child.depth ?? 0), 0);
      const type = run.sign === "~" ? "del" : used === 2 ? "strong" : "em";
      if (depth > MAX_DEPTH) this.out.push(...children);
      else this.add({ type, children, depth }, 0);
      this.open.length = i + 1; // delimiters between the two stay text
      run.count -= used;
      opener.count -= used;
      this.out[opener.index] = { type: "text", text: opener.sign.repeat(opener.count) };
      if (opener.count) i++;
      else this.open.pop();
    }
  }

  wait(run) {
    if (run.canOpen) {
      if (this.open.length === MAX_OPEN) this.open.shift();
      this.open.push({ ...run, index: this.out.length });
    }
    this.add({ type: "text", text: run.sign.repeat(run.count) }, 0);
  }
}

const link = (href, children) => ({ type: "link", href, children: children ?? [{ type: "text", text: href }] });

/** Bracket -> the place of its partner, for every [ that has one. */
function matching(text) {
  const partners = new Map();
  const stack = [];
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === "[") stack.push(i);
    else if (text[i] === "]" && stack.length) partners.set(stack.pop(), i);
  }
  return partners;
}

function merged(nodes) {
  const out = [];
  for (const node of nodes) {
    const last = out.at(-1);
    if (node.children) node.children = merged(node.children);
    if (node.type === "text" && last?.type === "text") last.text += node.text;
    else if (node.type !== "text" || node.text) out.push(node);
  }
  return out;
}
