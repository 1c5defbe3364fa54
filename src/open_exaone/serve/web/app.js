// The page: the conversation that is shown, the replies that are being generated, and what the controls do.

import { apiKey, continuationBody, keepApiKey, listModels, requestBody } from "./client.js";
import { keepCut, restoreCut } from "./cut.js";
import { announce, by, make } from "./dom.js";
import { showExamples } from "./examples.js";
import { exportFile, importFile } from "./files.js";
import { bindKeys } from "./keys.js";
import { Run } from "./run.js";
import { bindSettings, fillSettings, loadSettings, saveSettings, showSettings } from "./settings.js";
import { Sidebar } from "./sidebar.js";
import { MemoryStore, Store } from "./store.js";
import { setLanguage, t, translatePage } from "./strings.js";
import { canContinue, sends, Thread } from "./thread.js";
import { addMessage, choose, history, newConversation, path, removeLast, titleOf } from "./tree.js";

const SAVE_MS = 2000; // how often a growing reply is kept
const TICK_MS = 250; // how often the running time is drawn
const NARROW = matchMedia("(max-width: 800px)");

const settings = loadSettings();
const runs = new Map(); // node id -> its run
const deleted = new Set(); // ids; a reply that ends later does not bring its conversation back
const others = "BroadcastChannel" in window ? new BroadcastChannel("open-exaone") : null;
let store = new MemoryStore();
let conversation = newConversation();
let models = []; // { id, examples }
let opening = 0; // a later opening makes an earlier one void
let retry = null; // what was asked for when the server wanted a key

const runOf = (node) => runs.get(node.id);
const running = () => [...runs.values()].find((run) => run.conversation === conversation);
const sidebar = new Sidebar(() => store, openConversation);
const thread = new Thread({
  runOf,
  edit: (node, text) => send(text, node.parent),
  regenerate: (node) => again(node),
  resume: (node) => resume(node),
  choose: (node, step) => chooseBranch(node, step),
  endThought: (node) => runOf(node)?.endThought(),
});

// ---- Conversations

async function save(changed = conversation) {
  if (!Object.keys(changed.nodes).length || deleted.has(changed.id)) return;
  try {
    await store.save(changed);
    others?.postMessage(changed.id);
  } catch (error) {
    notify(error?.name === "QuotaExceededError" ? t("storageFull") : t("notSaved", { why: error?.name ?? "" }));
  }
}

/** Shows a conversation; an unknown id begins a new one. */
async function openConversation(id) {
  const own = ++opening;
  const live = [...runs.values()].find((run) => run.conversation.id === id)?.conversation;
  const kept = live ?? (id ? await store.load(id) : undefined);
  if (own !== opening) return;
  conversation = kept ?? newConversation();
  if (!live) interrupted(conversation);
  setAddress(kept ? conversation.id : "");
  show();
  thread.follow();
  if (NARROW.matches) setSidebar(false);
  if (!kept || !NARROW.matches) by("input").focus();
}

/** A reply without an end was being generated when the page was closed. */
function interrupted({ nodes }) {
  for (const node of Object.values(nodes)) if (node.role === "assistant") node.finish ??= "interrupted";
}

function setAddress(id) {
  if (location.hash.slice(1) !== id) window.history.replaceState(null, "", id ? `#${id}` : location.pathname + location.search);
}

function show() {
  const begun = path(conversation).length > 0;
  by("empty").hidden = begun;
  by("conversation-actions").hidden = !begun;
  by("title").textContent = begun ? conversation.title || t("untitled") : "";
  document.title = conversation.title ? `${conversation.title} – Open-EXAONE` : "Open-EXAONE";
  thread.show(conversation);
  showSend();
  sidebar.current = conversation.id;
  sidebar.refresh();
}

function chooseBranch(node, step) {
  const shown = choose(conversation, node.id, step);
  show();
  save();
  by("thread").querySelector(`[aria-label]:nth-child(${path(conversation).indexOf(shown) + 1}) [data-step="${step}"]`)?.focus();
}

// ---- Asking

function send(text, parent = path(conversation).at(-1)?.id ?? "") {
  if (!text.trim() || running()) return;
  if (!conversation.title) conversation.title = titleOf(text);
  const asked = addMessage(conversation, parent, { role: "user", content: text });
  setAddress(conversation.id);
  reply(asked.id);
}

/** Asks for a reply under a message of the user. */
async function reply(parent) {
  if (running()) return;
  const body = requestBody(history(conversation, parent, settings.system), settings);
  await generate(addMessage(conversation, parent, { role: "assistant", content: "", model: body.model }), body);
}

/** Continues a reply that was stopped or cut: what comes is added to it. */
async function resume(node) {
  if (running()) return;
  const body = continuationBody(history(conversation, node.parent, settings.system), node, settings);
  delete node.finish;
  delete node.error;
  const done = generate(node, body);
  by("send").focus(); // which stops it: the button that was pressed goes away
  await done;
}

async function generate(node, body) {
  const run = new Run(conversation, node, body, changed);
  runs.set(node.id, run);
  show();
  thread.follow();
  announce(t("waiting"));
  await save();
  await run.read();
  finish(run);
}

/** Asks again: a branch beside the reply, or in place of one that failed before its first word. */
function again(node) {
  if (running()) return;
  if (node.error && !node.content && !node.thought) removeLast(conversation, node.id);
  reply(node.parent);
}

function changed(run) {
  thread.update(run.node);
  if (run.phase !== run.announced) announce(t((run.announced = run.phase)));
}

function finish(run) {
  runs.delete(run.node.id);
  run.conversation.updated = Date.now();
  thread.update(run.node);
  showSend();
  save(run.conversation).then(() => sidebar.refresh());
  if (run.status === 401) askKey(() => loadModels().then(() => (canContinue(run.node) ? resume(run.node) : again(run.node))));
  else if (run.status === 404 || !models.length) loadModels();
}

function showSend() {
  const busy = Boolean(running());
  const button = by("send");
  button.querySelector("use").setAttribute("href", busy ? "#icon-stop" : "#icon-send");
  button.setAttribute("aria-label", t(busy ? "stop" : "send"));
  button.title = t(busy ? "stop" : "send");
  const held = document.activeElement === button;
  button.disabled = !busy && !by("input").value.trim();
  if (held && button.disabled && !NARROW.matches) by("input").focus(); // a disabled button has no focus
  button.dataset.busy = busy;
}

function submit() {
  if (running() || !by("input").value.trim()) return;
  const text = by("input").value;
  by("input").value = "";
  fitInput();
  send(text);
}

function stop() {
  running()?.stop();
}

// ---- Messages to the reader

function notify(text) {
  by("notice-text").textContent = text;
  by("notice").hidden = false;
}

function askKey(then) {
  retry = then;
  by("key-input").value = apiKey();
  if (!by("key").open) by("key").showModal();
}

function confirmDelete() {
  by("confirm-text").textContent = t("deleteAsk", { title: conversation.title });
  by("confirm").showModal();
}

// ---- Controls

function fitInput() {
  const input = by("input");
  input.style.height = "auto";
  input.style.height = `${input.scrollHeight}px`;
  showSend();
}

function setSidebar(shown, keep = false) {
  document.body.classList.toggle("side-open", shown);
  by("menu").setAttribute("aria-expanded", String(shown));
  by("sidebar").inert = !shown;
  if (!keep) return;
  settings.sidebar = shown;
  saveSettings(settings);
}

function toggleSidebar() {
  setSidebar(!document.body.classList.contains("side-open"), !NARROW.matches);
  if (NARROW.matches) by("new").focus();
}

/** Closes the list of conversations where it lies over the page; else stops the reply. */
function escape() {
  if (!NARROW.matches || !document.body.classList.contains("side-open")) return stop();
  setSidebar(false);
  by("menu").focus();
}

function showLanguage() {
  setLanguage(settings.language);
  translatePage();
  showExamples(models, settings, send);
}

function settingChanged(name) {
  showSettings(settings);
  if (name !== "language") return;
  showLanguage();
  showSettings(settings);
  const shown = conversation;
  thread.show(newConversation()); // messages are built anew, in the new language
  conversation = shown;
  show();
}

async function loadModels() {
  try {
    models = await listModels();
  } catch (error) {
    if (error.status === 401) return askKey(loadModels);
    return notify(error.message);
  }
  const ids = models.map(({ id }) => id);
  const chosen = ids.includes(settings.model) ? settings.model : (ids[0] ?? "");
  settings.model = chosen;
  by("model").replaceChildren(...ids.map((id) => make("option", { value: id, text: id.split("/").at(-1), title: id })));
  by("model").value = chosen;
  by("model").disabled = models.length < 2;
  showExamples(models, settings, send);
}

function nextTheme() {
  const dark = settings.theme === "dark" || (settings.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  settings.theme = dark ? "light" : "dark";
  saveSettings(settings);
  fillSettings(settings);
}

async function takeFile(file) {
  try {
    const { imported, known } = await importFile(file, store, t("tooLarge"));
    notify(t("imported", { count: imported, known }));
  } catch (error) {
    notify(error?.name === "QuotaExceededError" ? t("storageFull") : t("importFailed", { why: error.message }));
  }
  sidebar.refresh();
}

function bind() {
  const click = (id, action) => by(id).addEventListener("click", action);
  const startNew = () => openConversation("");
  click("new", startNew);
  click("menu", toggleSidebar);
  click("shade", () => setSidebar(false));
  click("send", () => (running() ? stop() : submit()));
  click("theme", nextTheme);
  click("notice-close", () => (by("notice").hidden = true));
  click("help", () => by("shortcuts").showModal());
  click("open-settings", () => by("settings").showModal());
  click("delete", confirmDelete);
  click("confirm-yes", async () => {
    by("confirm").close();
    deleted.add(conversation.id);
    stop();
    await store.remove(conversation.id);
    others?.postMessage(conversation.id);
    startNew();
  });
  click("rename", () => {
    by("rename-input").value = conversation.title;
    by("rename-box").showModal();
    by("rename-input").select();
  });
  click("rename-save", () => {
    conversation.title = by("rename-input").value.trim() || conversation.title;
    by("rename-box").close();
    show();
    save().then(() => sidebar.refresh());
  });
  click("key-save", () => {
    keepApiKey(by("key-input").value.trim(), by("key-remember").checked);
    by("key").close();
    retry?.();
  });
  click("export-one", () => exportFile(async (visit) => visit(conversation), "conversation"));
  click("export-all", () => exportFile((visit) => store.each(visit), "conversations"));
  click("import", () => by("import-file").click());
  by("import-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    if (file) await takeFile(file);
    event.target.value = "";
  });
  by("model").addEventListener("change", (event) => {
    settings.model = event.target.value;
    saveSettings(settings);
    showExamples(models, settings, send);
  });
  for (const button of document.querySelectorAll("[data-closes]")) {
    button.addEventListener("click", () => (button.dataset.closes === "sidebar" ? setSidebar(false, !NARROW.matches) : by(button.dataset.closes).close()));
  }
  for (const [field, button] of Object.entries({ "rename-input": "rename-save", "key-input": "key-save" })) {
    by(field).addEventListener("keydown", (event) => sends(event) && by(button).click());
  }
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  }
  by("input").addEventListener("input", fitInput);
  by("input").addEventListener("keydown", (event) => {
    if (!sends(event)) return;
    event.preventDefault();
    submit();
  });
  bindKeys({ escape, startNew, toggleThought: () => thread.toggleThought(), editLast, continueLast, search: openSearch });
}

function openSearch() {
  setSidebar(true);
  by("search").focus();
  by("search").select();
}

function editLast() {
  const last = path(conversation).findLast((node) => node.role === "user");
  if (last && !running()) thread.edit(last);
}

function continueLast() {
  const last = path(conversation).at(-1);
  if (last && canContinue(last)) resume(last);
}

async function start() {
  showLanguage();
  fillSettings(settings);
  bindSettings(settings, settingChanged);
  bind();
  setSidebar(settings.sidebar && !NARROW.matches);
  NARROW.addEventListener("change", () => setSidebar(settings.sidebar && !NARROW.matches));
  try {
    store = await Store.open();
    await restoreCut(store);
  } catch (error) {
    notify(t("notSaved", { why: error?.name ?? "" }));
  }
  others?.addEventListener("message", () => sidebar.refresh());
  addEventListener("hashchange", () => location.hash.slice(1) !== conversation.id && openConversation(location.hash.slice(1)));
  addEventListener("pagehide", () => keepCut(runs.values()));
  setInterval(() => {
    for (const run of runs.values()) {
      run.tick();
      thread.update(run.node);
    }
  }, TICK_MS);
  setInterval(() => runs.forEach((run) => save(run.conversation)), SAVE_MS);
  await openConversation(location.hash.slice(1));
  document.documentElement.dataset.ready = "true";
  loadModels();
}

start();
