// Shows a growing Markdown text. Blocks that can no longer change are built once; only what follows them is built again.
// Work is done in slices of a few milliseconds, so that a long text never stops the page.

import { copyText, icon, make, plain } from "./dom.js";
import { highlight } from "./highlight.js";
import { nextBlock } from "./markdown.js";
import { renderMath } from "./math.js";
import { t } from "./strings.js";

const SLICE_MS = 12; // longest work at a time
const REST = 5; // the pause after a slice is this many times as long as the slice, at least MIN_PAUSE_MS
const MIN_PAUSE_MS = 30;
const PART_BLOCKS = 40; // blocks in one part of a long text; parts that are not seen are not laid out
const WIDE_LATEX = 60; // characters of a formula in a line that may be wider than the page
const CODE_CHUNK = 8000; // characters of code in one element, so that a longer block is not laid out again as a whole

export class MarkdownView {
  #source = "";
  #place = 0; // up to here the text is built for good
  #open = []; // nodes of the blocks that may still change
  #openCode = null;
  #settled = 0;
  #heard = 0; // blocks that `onblock` was called with before the text was continued
  #part; // the element that the next block goes into
  #final = false;
  #timer = null;

  /** `onblock(element)` is called with each block that is built for good. */
  constructor(element, onblock = () => {}) {
    this.element = element;
    this.#part = element;
    this.onblock = onblock;
  }

  /** Shows `source`, which begins with what was shown before. `final`: no more will come. */
  update(source, final) {
    if (this.#final && !final) this.#restart();
    this.#source = source;
    this.#final = final;
    this.element.setAttribute("aria-busy", "true");
    this.#timer ??= setTimeout(() => this.#work(), 0);
  }

  /** A text that was whole is continued: its last block may grow. */
  #restart() {
    this.#heard = Math.max(0, this.#settled - 1);
    this.element.replaceChildren();
    this.#part = this.element;
    this.#place = this.#settled = 0;
    this.#open = [];
    this.#openCode = null;
  }

  /** Builds no more until the next `update`. */
  stop() {
    clearTimeout(this.#timer);
    this.#timer = null;
    this.element.removeAttribute("aria-busy");
  }

  #work() {
    const began = performance.now();
    this.#timer = null;
    const finished = this.#build(began + SLICE_MS);
    const took = performance.now() - began;
    if (!finished) this.#timer = setTimeout(() => this.#work(), this.#final ? 0 : Math.max(MIN_PAUSE_MS, took * REST));
    else if (this.#final) this.element.removeAttribute("aria-busy");
    else this.#rest(Math.max(MIN_PAUSE_MS, took * REST));
  }

  /** Waits before the next slice, so that building never takes more than a part of the time. */
  #rest(pause) {
    const shown = this.#source;
    const final = this.#final;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      if (this.#source !== shown || this.#final !== final) this.#work();
    }, pause);
  }

  #build(deadline) {
    for (let found; (found = nextBlock(this.#source, this.#place)); ) {
      if (!found.closed && !this.#final) break;
      this.#settle(found);
      if (performance.now() > deadline) return false;
    }
    if (this.#final) this.#clear();
    else this.#tentative();
    return true;
  }

  #settle({ block, end }) {
    const onblock = this.#settled < this.#heard ? () => {} : this.onblock;
    if (this.#openCode && block.type === "code") {
      this.#openCode.finish(block.text);
      this.#openCode = null;
      onblock(this.#open.pop());
    } else {
      this.#clear();
      onblock(place(this.#part, block));
    }
    this.#place = end;
    if (++this.#settled % PART_BLOCKS === 0) this.#part = this.element.appendChild(make("div", { class: "part" }));
  }

  #tentative() {
    let found = nextBlock(this.#source, this.#place);
    if (found?.block.type === "code" && this.#openCode) return this.#openCode.set(found.block.text);
    this.#clear();
    if (found?.block.type === "code") this.#openCode = new CodeView(found.block.language);
    if (this.#openCode) {
      this.#openCode.set(found.block.text);
      this.#part.append(this.#openCode.element);
      this.#open = [this.#openCode.element];
    } else {
      for (; found; found = nextBlock(this.#source, found.end)) this.#open.push(place(this.#part, found.block));
    }
  }

  #clear() {
    for (const node of this.#open) {
      const list = node.parentElement;
      node.remove();
      if (list !== this.#part && !list?.childElementCount) list?.remove();
    }
    this.#open = [];
    this.#openCode = null;
  }
}

/** Appends a block; an item goes into the list before it. Gives the node that was made. */
function place(parent, block) {
  const node = build(block);
  if (block.type !== "item") return parent.appendChild(node);
  const tag = block.ordered ? "OL" : "UL";
  let list = parent.lastElementChild;
  if (list?.tagName !== tag) {
    list = parent.appendChild(make(tag));
    if (block.ordered && block.number !== 1) list.start = block.number;
  }
  return list.appendChild(node);
}

function build(block) {
  const inline = (tag) => {
    const element = make(tag);
    appendInline(element, block.inline);
    return element;
  };
  switch (block.type) {
    case "heading":
      return inline(`h${Math.min(6, block.level + 2)}`); // the page has its own h1 and h2
    case "code": {
      const view = new CodeView(block.language);
      view.finish(block.text);
      return view.element;
    }
    case "rule":
      return make("hr");
    case "math":
      return mathElement(block.text, true);
    case "quote":
      return children(make("blockquote"), block.blocks);
    case "item":
      return children(make("li"), block.blocks);
    case "table":
      return table(block);
    default:
      return inline("p");
  }
}

function children(element, blocks) {
  for (const block of blocks) place(element, block);
  return element;
}

function table({ aligns, head, rows }) {
  const row = (tag, cells) => {
    const line = make("tr");
    cells.forEach((cell, i) => {
      const element = make(tag, { class: aligns[i], scope: tag === "th" ? "col" : null });
      appendInline(element, cell);
      line.append(element);
    });
    return line;
  };
  const body = make("tbody", {}, ...rows.map((cells) => row("td", cells)));
  const whole = make("table", {}, make("thead", {}, row("th", head)), body);
  return make("div", { class: "table", tabindex: "0", role: "region", "aria-label": t("table") }, whole);
}

function appendInline(element, nodes) {
  for (const node of nodes) element.append(inlineNode(node));
}

function inlineNode(node) {
  switch (node.type) {
    case "text":
      return document.createTextNode(plain(node.text));
    case "code":
      return make("code", { text: plain(node.text) });
    case "math":
      return mathElement(node.text, node.display);
    case "break":
      return make("br");
    case "link": {
      const element = make("a", { href: node.href, target: "_blank", rel: "noopener noreferrer nofollow", title: node.href });
      appendInline(element, node.children);
      return element;
    }
    default: {
      const element = make(node.type);
      appendInline(element, node.children);
      return element;
    }
  }
}

function mathElement(latex, display) {
  const element = make("span", { class: display ? "math display" : "math" });
  if (!display && latex.length > WIDE_LATEX) element.classList.add("wide");
  if (element.className !== "math") element.tabIndex = 0; // it may scroll
  renderMath(element, latex, display);
  return element;
}

/** A block of code that can grow at its end. */
class CodeView {
  #text = "";
  #endsLine = false;

  constructor(language) {
    this.language = language;
    this.code = make("code");
    const copy = make("button", { type: "button", class: "plain", onclick: () => this.#copy(copy) }, icon("copy"), t("copy"));
    const head = make("div", { class: "code-head" }, make("span", { text: plain(language) }), copy);
    this.element = make("div", { class: "code" }, head, make("pre", { tabindex: "0" }, this.code));
  }

  set(text) {
    const grows = text.startsWith(this.#text);
    if (!grows) this.code.replaceChildren();
    for (let at = grows ? this.#text.length : 0; at < text.length; ) {
      const chunk = this.code.lastElementChild;
      if (!chunk || (chunk.textContent.length >= CODE_CHUNK && this.#endsLine)) this.code.append(make("span", { class: "code-chunk" }));
      const line = text.indexOf("\n", at + CODE_CHUNK) + 1; // chunks end with a line
      const end = line || text.length;
      this.code.lastElementChild.append(plain(text.slice(at, end)));
      this.#endsLine = text[end - 1] === "\n";
      at = end;
    }
    this.#text = text;
  }

  /** Shows the whole code, in colours where its language is known. */
  finish(text) {
    const pieces = highlight(text, this.language);
    if (pieces.length < 2) return this.set(text);
    this.code.replaceChildren(...pieces.map(({ kind, text }) => (kind ? make("span", { class: kind, text: plain(text) }) : plain(text))));
    this.#text = text;
  }

  async #copy(button) {
    await copyText(this.#text).then(
      () => (button.lastChild.textContent = t("copied")),
      () => (button.lastChild.textContent = t("notCopied")),
    );
    setTimeout(() => (button.lastChild.textContent = t("copy")), 1500);
  }
}
