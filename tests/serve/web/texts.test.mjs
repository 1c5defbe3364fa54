import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import test from "node:test";
import vm from "node:vm";

const WEB = new URL("../../../src/open_exaone/serve/web/", import.meta.url);
const { DICTIONARIES } = await import(new URL("strings.js", WEB));
const read = (name) => readFileSync(new URL(name, WEB), "utf8");

test("both languages have the same texts, with the same places to fill", () => {
  const places = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
  assert.deepEqual(Object.keys(DICTIONARIES.ko), Object.keys(DICTIONARIES.en));
  for (const [key, text] of Object.entries(DICTIONARIES.en)) assert.deepEqual(places(DICTIONARIES.ko[key]), places(text), key);
});

test("every text is used, and every text that is asked for is there", () => {
  const code = readdirSync(WEB).filter((name) => /\.(js|html)$/.test(name) && name !== "strings.js").map(read).join("\n") + read("strings.js").split("let dictionary")[1]; // prettier-ignore
  const asked = [...code.matchAll(/data-t(?:-\w+)?="(\w+)"/g), ...code.matchAll(/\bt\("(\w+)"/g)].map(([, key]) => key);
  for (const key of asked) assert.ok(key in DICTIONARIES.en, key);
  for (const key of Object.keys(DICTIONARIES.en)) assert.ok(new RegExp(`["']${key}["']`).test(code), key);
});

const context = vm.createContext({});
vm.runInContext(`${read("vendor/temml.min.js")}; globalThis.temml = temml`, context);
const FORMULAS = [
  ["\\frac{a}{b}", "<mfrac>"],
  ["\\sqrt[3]{x}", "<mroot>"],
  ["x_i^2", "<msubsup>"],
  ["\\sum_{i=1}^n i", "∑"],
  ["\\alpha \\le \\Omega", "α"],
  ["\\begin{pmatrix} a & b \\\\ c & d \\end{pmatrix}", "<mtable"],
  ["\\begin{align*} a &= b \\\\ &= c \\end{align*}", "<mtable"],
  ["\\begin{cases} 1 & x > 0 \\\\ 0 \\end{cases}", "<mtable"],
  ["\\boxed{42}", "border"],
  ["\\text{정답: } x", "정답"],
  ["\\mathbb{R}, \\vec{v}, \\lim_{x \\to 0}, \\int_0^1 \\mathrm{d}x, \\binom{n}{k}, \\overline{AB}, \\left| x \\right|", "ℝ"],
];

test("the mathematics of replies is read", () => {
  for (const [latex, holds] of FORMULAS) {
    const markup = context.temml.renderToString(latex, { throwOnError: true, displayMode: true });
    assert.ok(markup.includes("<math") && markup.includes(holds), `${latex}: ${markup}`);
  }
});
