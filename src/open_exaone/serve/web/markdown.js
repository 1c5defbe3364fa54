// Block Markdown to plain objects, one top-level block at a time, so that a growing text is parsed from its last block on.
//
// Blocks: {type: "paragraph" | "heading", inline, level?}, {type: "code", text, language}, {type: "rule"},
//         {type: "math", text}, {type: "quote", blocks}, {type: "item", ordered, number, blocks},
//         {type: "table", aligns, head, rows}   (cells are inline nodes)
// Consecutive items form one list. What one block may hold is bounded; the rest goes on as a block of its own.

import { parseInline } from "./inline.js";

const MAX_BLOCK = 40_000; // characters of a paragraph, an item or a quote
const MAX_NODES = 5_000; // inline nodes of one top-level block
const MAX_ROWS = 300;
const MAX_COLUMNS = 40;
const MAX_DEPTH = 8; // quotes and lists within each other
const MATH_BEGIN = /^\\begin\{((?:align|aligned|equation|gather|gathered|multline|cases|array|split|[pbvBV]?matrix)\*?)\}/;

const FENCE = /^ {0,3}(`{3,}|~{3,})[ \t]*([^`\n]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]+(.*))?$/;
const RULE = /^ {0,3}(?:(?:\*[ \t]*){3,}|(?:-[ \t]*){3,}|(?:_[ \t]*){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|(\d{1,9})[.)])(?:[ \t]+(.*)|)$/;

/**
 * The block that begins at `place`, or null where only blank lines are left.
 * Gives {block, end, closed}: `closed` where no further text can change the block.
 */
export function nextBlock(source, place) {
  const begin = skipBlank(source, place);
  if (begin >= source.length) return null;
  const lines = new Lines(source, begin);
  const block = parse(lines, { left: MAX_NODES }, 0);
  const settled = block.type === "code" ? block.closed : lines.settled();
  return { block, end: lines.place, closed: settled };
}

/** All blocks of a text. */
export function parseMarkdown(source) {
  const blocks = [];
  for (let at = 0, found; (found = nextBlock(source, at)); at = found.end) blocks.push(found.block);
  return blocks;
}

class Lines {
  constructor(source, place) {
    this.source = source;
    this.place = place;
  }

  get done() {
    return this.place >= this.source.length;
  }

  end(from = this.place) {
    const found = this.source.indexOf("\n", from);
    return found === -1 ? this.source.length : found;
  }

  peek() {
    return this.source.slice(this.place, this.end()).replace(/\r$/, "");
  }

  /** The line after this one, or null. */
  second() {
    const end = this.end();
    return end < this.source.length ? this.source.slice(end + 1, this.end(end + 1)).replace(/\r$/, "") : null;
  }

  take() {
    const line = this.peek();
    this.place = Math.min(this.source.length, this.end() + 1);
    return line;
  }

  /** Whether the line that follows the block, which ends it, is all there (or long enough to tell what it is). */
  settled() {
    const next = skipBlank(this.source, this.place);
    return this.source.length - next > 2000 || this.source.indexOf("\n", next) !== -1;
  }
}

/** The begin of the first line at or after `place` that is not blank; the length of the text where there is none. */
function skipBlank(source, place) {
  let begin = place;
  let i = place;
  for (; i < source.length && /\s/.test(source[i]); i++) if (source[i] === "\n") begin = i + 1;
  return i === source.length ? i : begin;
}

const isBlank = (line) => line.trim() === "";

function parse(lines, budget, depth) {
  const line = lines.peek();
  if (FENCE.test(line)) return code(lines);
  if (HEADING.test(line)) return heading(lines, budget);
  if (RULE.test(line)) return lines.take(), { type: "rule" };
  if (depth < MAX_DEPTH && QUOTE.test(line)) return quote(lines, budget, depth);
  if (depth < MAX_DEPTH && ITEM.test(line)) return item(lines, budget, depth);
  return math(lines) ?? (isTable(lines) ? table(lines, budget) : paragraph(lines, budget));
}

function parseBlocks(source, budget, depth) {
  const blocks = [];
  for (const lines = new Lines(source, skipBlank(source, 0)); !lines.done; lines.place = skipBlank(source, lines.place)) {
    blocks.push(parse(lines, budget, depth));
  }
  return blocks;
}

function code(lines) {
  const [, fence, info] = FENCE.exec(lines.take());
  const closing = new RegExp(`^ {0,3}\\${fence[0]}{${fence.length},}[ \\t]*$`);
  const begin = lines.place;
  while (!lines.done && !closing.test(lines.peek())) lines.take();
  const closed = !lines.done && lines.end() < lines.source.length;
  const text = lines.source.slice(begin, lines.place).replace(/\r\n/g, "\n");
  lines.take();
  return { type: "code", text: text.replace(/\n$/, ""), language: info.trim().split(/\s/)[0].slice(0, 40), closed };
}

function heading(lines, budget) {
  const [, signs, text] = HEADING.exec(lines.take());
  return { type: "heading", level: signs.length, inline: parseInline((text ?? "").replace(/[ \t]+#+[ \t]*$/, ""), budget) };
}

function quote(lines, budget, depth) {
  const inner = [];
  for (let size = 0; !lines.done && QUOTE.test(lines.peek()) && size < MAX_BLOCK; size += inner.at(-1).length) {
    inner.push(lines.take().replace(QUOTE, ""));
  }
  return { type: "quote", blocks: parseBlocks(inner.join("\n"), budget, depth + 1) };
}

function item(lines, budget, depth) {
  const [, indent, marker, number, first = ""] = ITEM.exec(lines.peek());
  const width = indent.length + marker.length + 1;
  lines.take();
  const inner = [first.replace(/^\[([ xX])\]\s/, (_, mark) => (mark === " " ? "☐ " : "☑ "))];
  let blank = false;
  let cut = null; // the indentation of what stands under the item
  for (let size = first.length; !lines.done && size < MAX_BLOCK; size += inner.at(-1).length) {
    const line = lines.peek();
    const depthOf = isBlank(line) ? 0 : /^ */.exec(line)[0].length;
    // Two columns are enough for what stands under "1.", as models write it.
    const under = depthOf >= Math.min(width, indent.length + 2);
    if (isBlank(line) ? !goesOn(lines, indent.length + 2) : !under && (blank || interrupts(lines))) break;
    blank = isBlank(line);
    if (under && !blank) cut ??= Math.min(width, depthOf);
    inner.push(lines.take().slice(Math.min(cut ?? width, depthOf)));
  }
  return { type: "item", ordered: number !== undefined, number: Number(number ?? 0), blocks: parseBlocks(inner.join("\n"), budget, depth + 1) };
}

/** Whether after blank lines the item goes on: the next line is indented. */
function goesOn(lines, width) {
  const next = skipBlank(lines.source, lines.place);
  return next < lines.source.length && lines.source.startsWith(" ".repeat(width), next);
}

/** Whether this line begins something else than the paragraph before it. */
function interrupts(lines) {
  const line = lines.peek();
  const found = ITEM.exec(line);
  if (found && found[4] && (found[3] === undefined || Number(found[3]) < 100)) return true;
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || mathEnd(lines) !== null || isTable(lines);
}

function paragraph(lines, budget) {
  const text = [];
  for (let size = 0; !lines.done && size < MAX_BLOCK; ) {
    const line = lines.peek();
    if (isBlank(line) || (text.length && interrupts(lines))) break;
    const room = MAX_BLOCK - size;
    text.push(line.slice(0, room).replace(/^\s+/, ""));
    size += line.length + 1;
    if (line.length > room) lines.place += room; // a line without end goes on in the next paragraph
    else lines.take();
  }
  return { type: "paragraph", inline: parseInline(text.join("\n").replace(/\s+$/, ""), budget) };
}

/** {from, to, end} of a formula that stands alone from this line on, or null. A blank line ends an unclosed one. */
function mathEnd(lines) {
  const { source } = lines;
  const begin = lines.place + /^ {0,6}/.exec(source.slice(lines.place, lines.place + 6))[0].length;
  const sign = source[begin];
  if (sign !== "$" && sign !== "\\") return null;
  const environment = MATH_BEGIN.exec(source.slice(begin, begin + 40));
  const two = source.slice(begin, begin + 2);
  const opening = environment ? environment[0] : two === "$$" || two === "\\[" ? two : null;
  if (!opening) return null;
  const closing = environment ? `\\end{${environment[1]}}` : two === "$$" ? "$$" : "\\]";
  const region = source.slice(begin + opening.length, begin + 8000);
  const at = region.indexOf(closing);
  if (at === -1 || /\n[ \t]*\r?\n/.test(region.slice(0, at))) return null;
  const after = begin + opening.length + at + closing.length;
  if (!isBlank(source.slice(after, lines.end(after)).replace(/^[.,]/, ""))) return null;
  return { from: environment ? begin : begin + opening.length, to: environment ? after : after - closing.length, end: lines.end(after) };
}

function math(lines) {
  const found = mathEnd(lines);
  if (!found || !lines.source.slice(found.from, found.to).trim()) return null;
  lines.place = Math.min(lines.source.length, found.end + 1);
  return { type: "math", text: lines.source.slice(found.from, found.to) };
}

function isTable(lines) {
  const line = lines.peek();
  if (!line.includes("|")) return false;
  const second = lines.second();
  if (second === null || !second.includes("-") || !second.includes("|")) return false;
  const under = cells(second);
  return under.every((cell) => /^:?-+:?$/.test(cell)) && under.length === cells(line).length;
}

function cells(line) {
  const inner = line.trim().replace(/^\|/, "").replace(/\|$/, "");
  const found = [""];
  for (let i = 0; i < inner.length; i++) {
    if (inner[i] === "\\" && inner[i + 1] === "|") found[found.length - 1] += inner[++i];
    else if (inner[i] !== "|") found[found.length - 1] += inner[i];
    else if (found.length === MAX_COLUMNS) return found.map((cell) => cell.trim());
    else found.push("");
  }
  return found.map((cell) => cell.trim());
}

function table(lines, budget) {
  const inline = (row) => row.map((cell) => parseInline(cell, budget));
  const head = cells(lines.take());
  const aligns = cells(lines.take()).map((cell) => (cell.endsWith(":") ? (cell[0] === ":" ? "center" : "right") : "left"));
  const rows = [];
  while (!lines.done && rows.length < MAX_ROWS && lines.peek().includes("|")) {
    const row = cells(lines.take()).slice(0, head.length);
    rows.push(inline([...row, ...Array(head.length - row.length).fill("")]));
  }
  return { type: "table", aligns, head: inline(head), rows };
}
