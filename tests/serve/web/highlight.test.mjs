import assert from "node:assert/strict";
import test from "node:test";

import { highlight } from "../../../src/open_exaone/serve/web/highlight.js";

const kinds = (text, language) => highlight(text, language).filter(({ kind }) => kind).map(({ kind, text }) => `${kind} ${text}`); // prettier-ignore

test("comments, strings, numbers and words of a language", () => {
  assert.deepEqual(kinds('def f(x): # if "a"\n  return "# no" + 1.5', "Python"), [
    "keyword def", 'comment # if "a"', "keyword return", 'string "# no"', "number 1.5",
  ]); // prettier-ignore
  assert.deepEqual(kinds("/* for */ const a = `x${1}`; // end", "ts"), ["comment /* for */", "keyword const", "string `x${1}`", "comment // end"]);
  assert.deepEqual(kinds("SELECT a FROM t -- all", "sql"), ["keyword SELECT", "keyword FROM", "comment -- all"]);
  assert.deepEqual(highlight("if x", "unheard"), [{ kind: null, text: "if x" }]);
  assert.deepEqual(highlight("if x", "__proto__"), [{ kind: null, text: "if x" }]);
});

test("the pieces are the text, whatever it is", () => {
  for (const part of ['"', "'''", "/*", "`", "\\", "a", "1.", "#", "--", '"\\', "가"]) {
    const text = `x ${part} `.repeat(3000);
    for (const language of ["python", "js", "c", "java", "go", "rust", "sh", "sql", "json"]) {
      assert.equal(highlight(text, language).map((piece) => piece.text).join(""), text, `${part} in ${language}`);
    }
  }
});
