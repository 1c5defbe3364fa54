// Small helpers to build the page. Text becomes text nodes only.

const SVG = "http://www.w3.org/2000/svg";
// Control characters and bidirectional controls are drawn as U+FFFD: a reply must not rearrange what stands around it.
const STEERING = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\p{Cs}/gu;

export const by = (id) => document.getElementById(id);
export const plain = (text) => text.replace(STEERING, "\ufffd");

/** An element with properties (`class`, `text`, `on…` handlers, attributes) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", "icon");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A button that shows an icon alone. */
export function iconButton(name, label, onclick, properties = {}) {
  return make("button", { type: "button", class: "plain", title: label, "aria-label": label, onclick, ...properties }, icon(name));
}

let unheard = [];

/** Says texts to screen readers; those of one moment together. */
export function announce(text) {
  if (!unheard.length) {
    setTimeout(() => {
      by("announce").textContent = unheard.join("\n");
      unheard = [];
    }, 100);
  }
  unheard.push(text);
}

/** Copies a text; also where the page is not served over HTTPS. */
export async function copyText(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = make("textarea", { class: "hidden", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  const copied = document.execCommand("copy");
  area.remove();
  if (!copied) throw new Error("not copied");
}
