// What an empty conversation suggests to ask.

import { by, make } from "./dom.js";
import { t } from "./strings.js";

const NUM_SHOWN = 3;
const GENERAL = ["example1", "example2", "example3"];

/** The chosen model's own examples, those in the page's language first; general ones of a model that has none. */
export function exampleTexts(models, { model, language }) {
  const own = models.find(({ id }) => id === model)?.examples ?? [];
  if (!own.length) return GENERAL.map(t);
  const others = own.filter((example) => example.language !== language);
  return [...own.filter((example) => example.language === language), ...others].slice(0, NUM_SHOWN).map(({ text }) => String(text));
}

export function showExamples(models, settings, send) {
  const items = exampleTexts(models, settings).map((text) =>
    make("li", {}, make("button", { type: "button", class: "example", text, onclick: () => send(text) })),
  );
  by("examples").replaceChildren(...items);
}
