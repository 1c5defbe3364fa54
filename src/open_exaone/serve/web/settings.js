// The settings: kept in localStorage, changed in the settings dialog and beside the message field.

import { by } from "./dom.js";
import { number, t } from "./strings.js";

const KEY = "open-exaone.settings";
const BUDGETS = [64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, null]; // tokens; null: no limit
// Name -> [default, what is accepted]
const FIELDS = {
  language: [navigator.language?.startsWith("ko") ? "ko" : "en", (value) => ["en", "ko"].includes(value)],
  theme: ["auto", (value) => ["auto", "light", "dark"].includes(value)],
  model: ["", (value) => typeof value === "string"],
  thinking: [true, (value) => typeof value === "boolean"],
  budget: [null, (value) => BUDGETS.includes(value)],
  temperature: [null, (value) => within(value, 0, 2)],
  topP: [null, (value) => within(value, 0.01, 1)],
  maxTokens: [null, (value) => Number.isInteger(value) && within(value, 1, 1_000_000)],
  seed: [null, (value) => Number.isInteger(value) && within(value, 0, 2 ** 31 - 1)],
  system: ["", (value) => typeof value === "string" && value.length < 200_000],
  sidebar: [true, (value) => typeof value === "boolean"],
};
const NUMBERS = ["temperature", "topP", "maxTokens", "seed"];

const within = (value, low, high) => typeof value === "number" && value >= low && value <= high;

export function loadSettings() {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(KEY)) ?? {};
  } catch {
    // the defaults
  }
  const settings = {};
  for (const [name, [standard, accepts]] of Object.entries(FIELDS)) settings[name] = accepts(kept[name]) ? kept[name] : standard;
  return settings;
}

export function saveSettings(settings) {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // they hold until the page is closed
  }
}

/** Connects the dialog and the controls beside the message field; `changed(name)` is called after each change. */
export function bindSettings(settings, changed) {
  const set = (name, value) => {
    settings[name] = value;
    saveSettings(settings);
    changed(name);
  };
  for (const name of ["system", "language", "theme"]) by(`set-${name}`).addEventListener("input", (event) => set(name, event.target.value));
  for (const name of NUMBERS) by(`set-${name}`).addEventListener("input", (event) => setNumber(event.target, name, set));
  by("thinking").addEventListener("click", () => set("thinking", !settings.thinking));
  by("budget").max = BUDGETS.length - 1;
  by("budget").addEventListener("input", (event) => set("budget", BUDGETS[Number(event.target.value)]));
  by("settings-reset").addEventListener("click", () => {
    for (const name of [...NUMBERS, "system"]) set(name, FIELDS[name][0]);
    fillSettings(settings);
  });
}

function setNumber(input, name, set) {
  const value = input.value === "" && !input.validity.badInput ? null : input.valueAsNumber;
  const right = value === null || FIELDS[name][1](value);
  input.setAttribute("aria-invalid", String(!right));
  if (right) set(name, value);
}

/** Fills the dialog from the settings. */
export function fillSettings(settings) {
  for (const name of [...NUMBERS, "system", "language", "theme"]) {
    by(`set-${name}`).value = settings[name] ?? "";
    by(`set-${name}`).removeAttribute("aria-invalid");
  }
  showSettings(settings);
}

/** Shows the settings that are seen outside of the dialog. */
export function showSettings(settings) {
  by("thinking").setAttribute("aria-checked", String(settings.thinking));
  by("budget-box").classList.toggle("off", !settings.thinking);
  by("budget").disabled = !settings.thinking;
  by("budget").value = BUDGETS.indexOf(settings.budget);
  const shown = settings.budget === null ? t("budgetNone") : number(settings.budget);
  by("budget-value").textContent = shown;
  by("budget").setAttribute("aria-valuetext", shown);
  by("budget-box").title = `${t("budget")}: ${shown}. ${t("budgetHelp")}`;
  document.documentElement.dataset.theme = settings.theme;
}
