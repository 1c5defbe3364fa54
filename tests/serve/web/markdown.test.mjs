import assert from "node:assert/strict";
import test from "node:test";

import { parseInline, safeAddress } from "../../../src/open_exaone/serve/web/inline.js";
import { nextBlock, parseMarkdown } from "../../../src/open_exaone/serve/web/markdown.js";

/** Nodes as a short text: emphasis in <em>, <strong>, <del>, code in `…`, formulas in $…$ or $$…$$. */
function short(nodes) {
  return nodes
    .map((node) => {
      if (node.type === "text") return node.text;
      if (node.type === "break") return "⏎";
      if (node.type === "code") return "`" + node.text + "`";
      if (node.type === "math") return node.display ? `$$${node.text}$$` : `$${node.text}$`;
      if (node.type === "link") return `[${short(node.children)}](${node.href})`;
      return `<${node.type}>${short(node.children)}</${node.type}>`;
    })
    .join("");
}

const TABLE = [
  ["plain text", "plain text"],
  ["*a* and **b** and ***c***", "<em>a</em> and <strong>b</strong> and <em><strong>c</strong></em>"],
  ["**a *b* c**", "<strong>a <em>b</em> c</strong>"],
  ["~~gone~~ and ~one~", "<del>gone</del> and ~one~"],
  ["snake_case_name and _em_", "snake_case_name and <em>em</em>"],
  ["2 * 3 * 4", "2 * 3 * 4"],
  ["**강조(强調)**는 된다", "<strong>강조(强調)</strong>는 된다"],
  ['**"인용"**이다', '<strong>"인용"</strong>이다'],
  ["an **unclosed one", "an **unclosed one"],
  ["`a * b` and ``a ` b``", "`a * b` and `a ` b`"],
  ["an `unclosed", "an `unclosed"],
  ["\\*not\\* \\$5", "*not* $5"],
  ["one\ntwo<br>three", "one⏎two⏎three"],
  ["$x^2$ and \\(y_1\\)", "$x^2$ and $y_1$"],
  ["is \\boxed{\\frac{1}{2}}.", "is $\\boxed{\\frac{1}{2}}$."],
  ["is \\boxed{1", "is \\boxed{1"],
  ["it costs $5 and $10", "it costs $5 and $10"],
  ["sum $$x$$ and \\[y\\]", "sum $$x$$ and $$y$$"],
  ["unclosed $x and \\(y", "unclosed $x and \\(y"],
  ["$a$와 $b_i*c*$", "$a$와 $b_i*c*$"],
  ["[name](https://example.org/a_(b) \"title\")", "[name](https://example.org/a_(b))"],
  ["[**bold** name](https://example.org/)", "[<strong>bold</strong> name](https://example.org/)"],
  ["![alt](https://example.org/x.png)", "[alt](https://example.org/x.png)"],
  ["see https://example.org/a?b=1.", "see [https://example.org/a?b=1](https://example.org/a?b=1)."],
  ["<https://example.org/>", "[https://example.org/](https://example.org/)"],
  ["[x](javascript:alert(1))", "[x](javascript:alert(1))"],
  ["[x](JaVaScript:alert(1)) [x](data:text/html,1) [x](vbscript:1) [x](/v1/models)", null],
  ["<script>alert(1)</script>", "<script>alert(1)</script>"],
  ["<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"],
  ["a &lt; b &amp; c", "a < b & c"],
];

test("inline Markdown", () => {
  for (const [source, wanted] of TABLE) assert.equal(short(parseInline(source)), wanted ?? source);
});

test("only addresses of pages and mail may be followed", () => {
  for (const address of ["javascript:alert(1)", " javascript:alert(1)", "java\nscript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//x", "x"]) {
    assert.equal(safeAddress(address), null, address);
  }
  assert.equal(safeAddress("mailto:a@example.org"), "mailto:a@example.org");
});

const kinds = (source) => parseMarkdown(source).map(({ type }) => type);

test("blocks", () => {
  const source = "# Title #\ntext\nmore\n\n---\n\n> quote\n> - in it\n\n```py\nx = 1\n\n# no heading\n```\n1. one\n2. two\n\n   under two\n3) three\n\n$$\nx\n$$\n\n| a | b |\n|---|:-:|\n| 1 | 2 |\nend";
  assert.deepEqual(kinds(source), ["heading", "paragraph", "rule", "quote", "code", "item", "item", "item", "math", "table", "paragraph"]);
  const blocks = parseMarkdown(source);
  assert.equal(short(blocks[0].inline), "Title");
  assert.equal(short(blocks[1].inline), "text⏎more");
  assert.deepEqual(blocks[3].blocks.map(({ type }) => type), ["paragraph", "item"]);
  assert.equal(blocks[4].text, "x = 1\n\n# no heading");
  assert.equal(blocks[4].language, "py");
  assert.deepEqual(blocks.slice(5, 8).map(({ number }) => number), [1, 2, 3]);
  assert.equal(blocks[6].blocks.length, 2);
  assert.equal(blocks[8].text.trim(), "x");
  assert.deepEqual(blocks[9].aligns, ["left", "center"]);
  assert.deepEqual(blocks[9].rows.map((row) => row.map(short)), [["1", "2"]]);
});

test("nested lists, also where they are indented by two", () => {
  const [item] = parseMarkdown("1. a\n  - b\n    - c\n");
  assert.deepEqual(item.blocks.map(({ type }) => type), ["paragraph", "item"]);
  assert.deepEqual(item.blocks[1].blocks.map(({ type }) => type), ["paragraph", "item"]);
  assert.equal(short(parseMarkdown("- [x] done")[0].blocks[0].inline), "☑ done");
});

test("formulas that stand alone", () => {
  assert.deepEqual(kinds("\\[ a \\]\n\n\\begin{align*}\na &= b\n\\end{align*}\n\n$$ unclosed\n\ntext"), ["math", "math", "paragraph", "paragraph"]);
  assert.deepEqual(kinds("$$a$$ is in a line"), ["paragraph"]);
});

test("an unclosed fence is code to the end", () => {
  assert.deepEqual(parseMarkdown("```\na\n\nb").map(({ type, text }) => [type, text]), [["code", "a\n\nb"]]);
});

const SAMPLES = [
  "# T\n\npara *one*\ntwo\n\n- a\n- b\n\n  c\n- d\n\ntext\n\n1. x\n   ```py\n   y\n   ```\n2. z\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n> q\n> r\n\n$$\nx\n$$\n\n```\ncode\n\nmore\n```\nend\n",
  "a\n#b\n# c\n* x\n\n* y\n\n      z\n\\[\nu\n\n\\]\n---\n~~~\nw\n",
];

test("a text that grows gives the same blocks as the whole text", () => {
  for (const source of SAMPLES) {
    for (let step = 1; step < 8; step++) {
      const blocks = [];
      let place = 0;
      for (let length = step; length < source.length; length += step) {
        const part = source.slice(0, length);
        for (let found; (found = nextBlock(part, place))?.closed; place = found.end) blocks.push(found.block);
      }
      for (let found; (found = nextBlock(source, place)); place = found.end) blocks.push(found.block);
      assert.deepEqual(blocks, parseMarkdown(source), `pieces of ${step}`);
    }
  }
});

const N = 200_000; // characters
const many = (text) => text.repeat(N / text.length);

/** Texts that are made to be slow. */
const HOSTILE = {
  stars: many("*a "),
  nested: many("*a _b ") + "_ *".repeat(N / 20),
  brackets: "[".repeat(N / 2) + "]".repeat(N / 2),
  links: many("[a]("),
  titles: many('[a](http://x.y "'),
  dollars: many("$a "),
  parentheses: many("\\("),
  boxes: many("\\boxed{"),
  ticks: Array.from({ length: 630 }, (_, i) => "`".repeat(i)).join(" "),
  quotes: many(">"),
  lists: many("- "),
  deep: Array.from({ length: 630 }, (_, i) => " ".repeat(i) + "- x").join("\n"),
  tables: "|a|b|\n|-|-|\n" + many("|1|2|\n"),
  wide: "|" + many("a|") + "\n|" + many("-|"),
  dashes: many("-") + "x",
  spaces: "a" + many(" ") + "b",
  fences: many("```\n\n"),
  environments: many("\\begin{align}\n"),
  displays: many("$$\n"),
  lines: many("a\n"),
  word: many("가"),
  html: many("<div onclick=x>"),
  entities: many("&amp"),
};

function depth(value) {
  const inner = value.children ?? value.blocks ?? value.inline ?? value.rows?.flat(2) ?? [];
  return 1 + inner.reduce((most, child) => Math.max(most, depth(child)), 0);
}

for (const [name, source] of Object.entries(HOSTILE)) {
  test(`a hostile text stays bounded: ${name}`, () => {
    let blocks = 0;
    const began = process.cpuUsage();
    for (let at = 0, found; (found = nextBlock(source, at)); at = found.end) {
      assert.ok(found.end > at, "no progress");
      assert.ok(depth(found.block) < 60, "too deep");
      blocks++;
    }
    const used = process.cpuUsage(began).user / 1e6;
    assert.ok(blocks > 0 && used < 5, `${used} s`);
  });
}
