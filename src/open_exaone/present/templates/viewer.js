// The viewer of samples. It reads what present/viewer.py packed: an index of columns, and texts in chunks that are
// unpacked when they are needed. Whatever a sample says reaches the page as text nodes only, never as markup.

const ROW = 48; // height of a row of the list in px, as in evaluation.css
const SPARE_ROWS = 8; // drawn above and below what is seen
const KEPT_CHUNKS = 12; // unpacked chunks that are kept, of each kind
const MAX_MARKS = 500; // places where what was searched for is marked, in one text
const MAX_STRIP = 256; // samples of one problem that are linked
const SIGNS = { __proto__: null, correct: "✓", wrong: "✗", unparsed: "?", truncated: "…", timeout: "!", error: "!" }; // in this order
const TONES = { __proto__: null, correct: "good", wrong: "bad" };
const STEERING = /[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]|\p{Cs}/gu; // as base/printable.py
const FIELDS = ["q", "in", "task", "problem", "language", "min", "max", "sort", "verdict", "thought"];

const by = (id) => document.getElementById(id);
const plain = (text) => text.replace(/\r\n/g, "\n").replace(STEERING, "\ufffd");
const count = (number) => number.toLocaleString("en-US");
const tone = (verdict) => TONES[verdict] || "odd";
const rank = (verdict) => (verdict in SIGNS ? Object.keys(SIGNS).indexOf(verdict) : Infinity);
const sign = (verdict) => SIGNS[verdict] || "!";
const parts = (text) => (typeof text === "string" ? [text] : [text.head, text.tail]); // of one that may be cut
const measured = (name, since) => (document.documentElement.dataset[name] = Math.round(performance.now() - since));

let samples; // the index: columns, and the lists that they point into
const chunks = {}; // kind -> elements, starts, kept
const state = Object.fromEntries(FIELDS.map((name) => [name, ""])); // the filters, as the address has them
let sizes; // [sample]: its tokens; its characters where nobody counted tokens
let unit = "tokens";
let shown = []; // samples that pass the filters, in order
let hits = null; // [sample]: 1 where the search found it; null without a search
let searched = null; // the pattern of the search
let current = -1; // the sample that is open
let searchRun = 0; // a later run makes an earlier one stop
let openRun = 0;

// ---- Packed texts

function chunk(kind, number) {
  const { elements, kept } = chunks[kind];
  const texts = kept.get(number) || unpack(elements[number]);
  kept.delete(number);
  kept.set(number, texts); // the last one used stands last
  if (kept.size > KEPT_CHUNKS) kept.delete(kept.keys().next().value);
  return texts;
}

async function record(kind, place) {
  const { starts } = chunks[kind];
  let low = 0;
  for (let high = starts.length; high - low > 1; ) {
    const middle = (low + high) >> 1;
    if (starts[middle] <= place) low = middle;
    else high = middle;
  }
  return (await chunk(kind, low))[place - starts[low]];
}

const problemOf = (i) => samples.problems[samples.problem[i]]; // task, id, language, place of the question
const taskOf = (i) => samples.tasks[problemOf(i)[0]];
const verdictOf = (i) => samples.verdicts[samples.verdict[i]];

// ---- The address: #task/problem/index?filters, or #filters

function readAddress() {
  const hash = location.hash.slice(1);
  const [, path, query] = /^([^?=]*)(?:\?(.*))?$/s.exec(hash) || [null, "", hash];
  const given = new URLSearchParams(query || "");
  for (const name of FIELDS) state[name] = given.get(name) || "";
  for (const name of FIELDS) {
    if (by(name) instanceof HTMLInputElement && by(name).type === "checkbox") by(name).checked = state[name] !== "";
    else if (by(name)) by(name).value = state[name];
  }
  return path;
}

const encode = (text) => encodeURIComponent(text.replace(/\p{Cs}/gu, "\ufffd"));
const pathOf = (i) => `${encode(taskOf(i))}/${encode(problemOf(i)[1])}/${samples.index[i]}`;

function query() {
  return new URLSearchParams(FIELDS.filter((name) => state[name]).map((name) => [name, state[name]])).toString();
}

function address(path) {
  const filters = query();
  return "#" + path + (filters ? (path ? "?" : "") + filters : "");
}

function sampleAt(path) {
  let names;
  try {
    names = path.split("/").map(decodeURIComponent);
  } catch {
    return -1; // a broken escape
  }
  const [task, id, index] = [names[0], names.slice(1, -1).join("/"), Number(names.at(-1))];
  return samples.problem.findIndex((_, i) => samples.index[i] === index && problemOf(i)[1] === id && taskOf(i) === task);
}

// ---- Filters and search

function filter() {
  const since = performance.now();
  const least = state.min === "" ? 0 : Number(state.min);
  const most = state.max === "" ? Infinity : Number(state.max);
  const wanted = new Set(state.verdict ? state.verdict.split(",") : samples.verdicts);
  const part = state.problem.toLowerCase();
  const passes = samples.problems.map(
    ([task, id, language]) =>
      (!state.task || samples.tasks[task] === state.task) &&
      (!state.language || language === state.language) &&
      id.toLowerCase().includes(part),
  );
  const counts = samples.verdicts.map(() => 0);
  const found = [];
  for (let i = 0; i < samples.problem.length; i++) {
    if (!passes[samples.problem[i]] || sizes[i] < least || sizes[i] > most || (hits && !hits[i])) continue;
    counts[samples.verdict[i]]++;
    if (wanted.has(verdictOf(i))) found.push(i);
  }
  if (state.sort) {
    const way = state.sort === "longest" ? -1 : 1;
    found.sort((a, b) => way * (sizes[a] - sizes[b]) || a - b);
  }
  shown = found;
  drawVerdicts(counts);
  by("rows").style.height = `${shown.length * ROW}px`;
  drawRows();
  by("status").textContent = `${count(shown.length)} of ${count(samples.problem.length)} samples`;
  document.documentElement.dataset.shown = shown.length;
  measured("filtered", since);
}

async function search() {
  const run = ++searchRun;
  const since = performance.now();
  const progress = by("progress");
  progress.hidden = true;
  delete document.documentElement.dataset.searched;
  [hits, searched] = [null, null];
  if (!state.q) return filter();
  searched = state.q.replace(/\p{Cs}/gu, "\ufffd").replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
  const pattern = new RegExp(searched, "iu");
  const holds = (text) => text !== null && parts(text).some((part) => pattern.test(part));
  hits = new Uint8Array(samples.problem.length);
  const questions = new Uint8Array(samples.problems.length);
  const kinds = {
    questions: (place, [question]) => (questions[place] = holds(question)),
    answers: (place, [answer, extracted]) => holds(answer) || holds(extracted) || questions[problemOf(place)[3]],
    ...(state.in && { thoughts: (_, thought) => holds(thought) }),
  };
  progress.max = Object.keys(kinds).reduce((sum, kind) => sum + chunks[kind].elements.length, 0);
  progress.value = 0;
  progress.hidden = false;
  let drawn = performance.now();
  for (const [kind, test] of Object.entries(kinds)) {
    const { elements, starts, kept } = chunks[kind];
    for (let number = 0; number < elements.length; number++) {
      const texts = await (kept.get(number) || unpack(elements[number]));
      if (run !== searchRun) return;
      texts.forEach((text, j) => {
        if (test(starts[number] + j, text) && kind !== "questions") hits[starts[number] + j] = 1;
      });
      progress.value++;
      if (performance.now() - drawn > 200) {
        filter();
        await new Promise((go) => setTimeout(go)); // input and drawing come first
        drawn = performance.now();
      }
    }
  }
  if (run !== searchRun) return;
  progress.hidden = true;
  filter();
  measured("searched", since);
}

// ---- The list: only the rows that are seen are in the page

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = plain(String(text));
  return node;
}

function drawVerdicts(counts) {
  const pressed = state.verdict.split(",");
  const buttons = samples.verdicts.map((verdict, number) => {
    const button = make("button", tone(verdict), `${sign(verdict)} ${verdict}`);
    button.type = "button";
    button.value = verdict;
    button.setAttribute("aria-pressed", pressed.includes(verdict));
    button.append(make("span", "", count(counts[number])));
    return button;
  });
  by("verdicts").replaceChildren(...buttons.sort((a, b) => rank(a.value) - rank(b.value) || 0));
}

function drawRows() {
  const list = by("list");
  const first = Math.max(0, Math.floor(list.scrollTop / ROW) - SPARE_ROWS);
  const last = Math.min(shown.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + SPARE_ROWS);
  const rows = [];
  for (let place = first; place < last; place++) rows.push(row(place));
  by("rows").replaceChildren(...rows);
  if (shown.slice(first, last).includes(current)) list.setAttribute("aria-activedescendant", `sample-${current}`);
  else list.removeAttribute("aria-activedescendant");
}

function row(place) {
  const i = shown[place];
  const node = make("div", `row ${tone(verdictOf(i))}`);
  node.id = `sample-${i}`;
  node.style.top = `${place * ROW}px`;
  node.setAttribute("role", "option");
  node.setAttribute("aria-selected", i === current);
  node.setAttribute("aria-posinset", place + 1);
  node.setAttribute("aria-setsize", shown.length);
  const mark = make("span", "sign", sign(verdictOf(i)));
  mark.setAttribute("aria-label", plain(verdictOf(i)));
  const name = make("span", "name", problemOf(i)[1]);
  name.append(make("span", "of", ` · ${samples.index[i]}`));
  const found = make("span", "found", samples.extracted[i] ?? "");
  const size = make("span", "tokens", `${count(sizes[i])} ${unit}`);
  node.append(mark, name, found, make("span", "task", taskOf(i)), size);
  return node;
}

function reveal(place) {
  const list = by("list");
  if (place * ROW < list.scrollTop) list.scrollTop = place * ROW;
  else if ((place + 1) * ROW > list.scrollTop + list.clientHeight) list.scrollTop = (place + 1) * ROW - list.clientHeight;
}

// ---- One sample

function fill(node, text, line, marked = true) {
  if (typeof text === "string") return put(node, text, marked);
  put(node, text.head, marked);
  const where = line ? `line ${count(line)} of samples.jsonl` : "problems.jsonl";
  node.append(make("span", "left-out", `… ${count(text.left_out)} characters are left out here; ${where} has them all …`));
  put(node, text.tail, marked);
  return node;
}

function put(node, text, marked) {
  const shownText = plain(text);
  let from = 0;
  if (marked && searched) {
    let marks = 0;
    for (const match of shownText.matchAll(new RegExp(searched, "giu"))) {
      if (++marks > MAX_MARKS) break;
      node.append(shownText.slice(from, match.index), make("mark", "", match[0]));
      from = match.index + match[0].length;
    }
  }
  node.append(shownText.slice(from));
  return node;
}

function block(className, text, line) {
  const node = make("div", `text ${className}`);
  node.dir = "auto";
  return fill(node, text, line);
}

const heading = (text) => make("h4", "", text);

/** Draws a block's formulas; its source is folded below, and open during a search, which marks what it found there. */
const draw = (block) => withFormulas(block, { isOpen: searched !== null }).catch(() => undefined); // else it stays as it was written

async function show(i) {
  const run = ++openRun;
  const since = performance.now();
  current = i;
  drawRows();
  if (i < 0) return;
  const [task, id, language, place] = problemOf(i);
  const [question, gold] = await record("questions", place);
  const [answer, extracted, why, calls, thoughtLength, finished, line] = await record("answers", i);
  if (run !== openRun) return;
  const verdict = verdictOf(i);
  const versus = make("div", `versus ${tone(verdict)}`);
  versus.append(labelled("gold", gold), labelled("extracted", extracted ?? "–", "tone", line));
  const [asked, answered] = [block("question", question), block("answer", answer, line)];
  asked.lang = language;
  if (answer === "") answered.append("(no answer)");
  const detail = by("detail");
  detail.replaceChildren(
    headline(i, verdict, samples.tasks[task], id),
    strip(i),
    heading("question"),
    asked,
    versus,
    ...(why === "" ? [] : [fill(make("p", "why"), why, line, false)]),
    ...(thoughtLength ? [heading("thought"), thought(i, thoughtLength, line)] : []),
    heading("answer"),
    answered,
    ...calls.flatMap((call) => [heading("tool call"), block("thought", call, line)]),
    facts(i, language, finished, line),
  );
  detail.scrollTop = 0;
  await Promise.all([draw(asked), draw(answered)]);
  if (run !== openRun) return;
  document.documentElement.dataset.open = pathOf(i);
  measured("opened", since);
}

function labelled(name, text, className = "", line = 0) {
  const node = make("div", className);
  node.append(make("span", "", name), block("", text, line));
  return node;
}

function headline(i, verdict, task, id) {
  const node = make("div", "top");
  const link = make("a", "", "link to this sample");
  link.href = "#" + pathOf(i);
  node.append(make("h3", "", id), make("span", "mode", `${task}, sample ${samples.index[i]}`));
  node.append(make("span", `chip ${tone(verdict)}`, `${sign(verdict)} ${verdict}`), link);
  return node;
}

function strip(i) {
  const node = make("nav", "strip");
  node.setAttribute("aria-label", "Samples of this problem");
  const own = [];
  samples.problem.forEach((problem, j) => problem === samples.problem[i] && own.push(j));
  if (own.length < 2) return node;
  for (const j of own.slice(0, MAX_STRIP)) {
    const link = make("a", tone(verdictOf(j)), samples.index[j]);
    link.href = address(pathOf(j));
    link.title = plain(verdictOf(j));
    if (j === i) link.setAttribute("aria-current", "true");
    node.append(link);
  }
  if (own.length > MAX_STRIP) node.append(make("span", "mode", `and ${count(own.length - MAX_STRIP)} more`));
  return node;
}

function thought(i, length, line) {
  const node = make("details");
  const tokens = samples.thought[i] ? `${count(samples.thought[i])} tokens, ` : "";
  const body = make("div", "text thought", "…");
  body.dir = "auto";
  const summary = make("summary", "", `${tokens}${count(length)} characters`);
  node.append(summary, body);
  summary.addEventListener("click", () => {
    state.thought = node.open ? "" : "open"; // it opens or closes after this
    remember();
  });
  node.addEventListener("toggle", async () => {
    if (!node.open || node.dataset.read) return;
    node.dataset.read = "yes";
    const text = await record("thoughts", i);
    body.replaceChildren();
    draw(fill(body, text, line));
  });
  node.open = state.thought === "open" || state.in !== "";
  return node;
}

function facts(i, language, finished, line) {
  const [prompt, all, thoughts] = [samples.prompt[i], samples.tokens[i], samples.thought[i]];
  const values = {
    "stopped by": samples.stops[samples.stop[i]] || "–",
    "tokens of the prompt": prompt ? count(prompt) : "not counted",
    "tokens of the reply": !all ? "not counted" : count(all) + (thoughts ? `, of them ${count(thoughts)} thought` : ""),
    "thought closed": finished ? null : "no",
    language: language || "–",
    "where it stands": `samples.jsonl, line ${count(line)}`,
  };
  const list = make("dl");
  for (const [name, value] of Object.entries(values)) {
    if (value === null) continue;
    const pair = make("div");
    pair.append(make("dt", "", name), make("dd", "", value));
    list.append(pair);
  }
  return list;
}

// ---- What the reader does

function remember() {
  history.replaceState(null, "", address(current < 0 ? "" : pathOf(current)));
}

async function choose(place) {
  if (!shown.length) return;
  const at = Math.max(0, Math.min(shown.length - 1, place));
  reveal(at);
  const done = show(shown[at]);
  remember();
  await done;
}

const step = (by) => choose(Math.max(shown.indexOf(current) + by, 0));

async function changed(anew) {
  if (anew) await search();
  else filter();
  if (!shown.includes(current)) by("list").scrollTop = 0;
  if (!shown.includes(current) && shown.length) await show(shown[0]);
  else if (anew && current >= 0) await show(current); // marked anew
  remember();
}

async function visit() {
  const path = readAddress();
  await search();
  const found = path.includes("/") ? sampleAt(path) : -1;
  await show(found >= 0 ? found : (shown[0] ?? -1));
  reveal(Math.max(0, shown.indexOf(current)));
  drawRows();
  if (path.includes("/") && found < 0) by("status").textContent += `; ${plain(path)} is not one of them`;
  if (location.hash) by("samples").scrollIntoView();
}

function listen() {
  let waiting = 0;
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  by("filters").addEventListener("input", ({ target }) => {
    state[target.id] = target.type === "checkbox" ? (target.checked ? target.value : "") : target.value;
    const anew = target.id === "q" || (target.id === "in" && state.q !== "");
    clearTimeout(waiting);
    waiting = setTimeout(() => changed(anew || searched !== null), target.id === "q" ? 250 : 60);
  });
  by("verdicts").addEventListener("click", ({ target }) => {
    const button = target.closest("button");
    if (!button) return;
    const pressed = new Set(state.verdict.split(",").filter(Boolean));
    if (!pressed.delete(button.value)) pressed.add(button.value);
    state.verdict = [...pressed].join(",");
    changed(false);
    [...by("verdicts").children].find((other) => other.value === button.value)?.focus();
  });
  by("clear").addEventListener("click", () => {
    for (const name of FIELDS) state[name] = "";
    by("filters").reset();
    changed(true);
  });
  by("list").addEventListener("scroll", drawRows, { passive: true });
  by("list").addEventListener("click", ({ target }) => {
    const node = target.closest(".row");
    if (node) choose(shown.indexOf(Number(node.id.slice("sample-".length))));
  });
  addEventListener("resize", drawRows);
  addEventListener("hashchange", () => location.hash !== "#samples" && visit());
  addEventListener("keydown", pressed);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const typing = event.target.closest?.("input, select, textarea");
  if (typing && event.key === "Escape") typing.blur();
  if (typing) return;
  const inList = event.target === by("list");
  const page = Math.floor(by("list").clientHeight / ROW);
  const moves = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  if (event.key === "j" || event.key === "k") step(event.key === "j" ? 1 : -1);
  else if (inList && event.key in moves) step(moves[event.key]);
  else if (event.key === "t") by("detail").querySelector("details:not(.source) > summary")?.click();
  else if (event.key === "/") by("q").focus();
  else return;
  event.preventDefault();
}

async function start() {
  const index = document.querySelector('script[data-kind="index"]');
  samples = await unpack(index);
  sizes = samples.tokens;
  if (!sizes.some(Boolean)) [sizes, unit] = [samples.chars, "characters"];
  by("unit").textContent = unit;
  for (const kind of Object.keys(samples.starts)) {
    const elements = document.querySelectorAll(`script[data-kind="${kind}"]`);
    chunks[kind] = { elements, starts: samples.starts[kind], kept: new Map() };
  }
  for (const task of samples.tasks) by("task").append(new Option(plain(task), task));
  const languages = new Set(samples.problems.map(([, , language]) => language));
  for (const language of [...languages].filter(Boolean).sort()) by("language").append(new Option(plain(language), language));
  by("loading").hidden = true;
  by("viewer").hidden = false;
  listen();
  await visit();
  measured("ready", 0);
}

start().catch((error) => {
  by("loading").hidden = false;
  by("loading").textContent = `The samples cannot be shown: ${error.message}. This page needs a browser of 2023 or later.`;
});
