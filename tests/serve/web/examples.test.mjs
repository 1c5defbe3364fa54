import assert from "node:assert/strict";
import test from "node:test";

import { exampleTexts } from "../../../src/open_exaone/serve/web/examples.js";
import { setLanguage, t } from "../../../src/open_exaone/serve/web/strings.js";

const own = [
  { language: "en", text: "one" },
  { language: "ko", text: "하나" },
  { language: "en", text: "two" },
  { language: "ko", text: "둘" },
];
const models = [{ id: "large", examples: [] }, { id: "small", examples: own }];

test("a model's own examples come in the page's language first, three of them", () => {
  assert.deepEqual(exampleTexts(models, { model: "small", language: "en" }), ["one", "two", "하나"]);
  assert.deepEqual(exampleTexts(models, { model: "small", language: "ko" }), ["하나", "둘", "one"]);
});

test("a model without examples, or none yet, gets the general ones", () => {
  setLanguage("en");
  for (const model of ["large", "", undefined]) {
    assert.deepEqual(exampleTexts(models, { model, language: "en" }), ["example1", "example2", "example3"].map((key) => t(key)));
  }
});
