// A conversation is a tree of messages: editing or asking again adds a branch beside the old one.
//
// {id, title, created, updated, nodes: {id: {id, parent, role, content, thought, …}}, chosen: {parent id: child id}}
// The root's id is "". Times are milliseconds since 1970.

const MAX_NODES = 100_000;
const NUMBERS = ["promptTokens", "tokens", "thoughtTokens", "thoughtMs", "firstMs", "ms", "created"];
const TEXTS = ["model", "finish", "error"];

export const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export function newConversation(now = Date.now()) {
  return { id: newId(), title: "", created: now, updated: now, nodes: {}, chosen: {} };
}

/** Adds a message under `parent` and makes it the shown branch. */
export function addMessage(conversation, parent, message, now = Date.now()) {
  const node = { thought: "", ...message, id: newId(), parent, created: now };
  conversation.nodes[node.id] = node;
  conversation.chosen[parent] = node.id;
  conversation.updated = now;
  return node;
}

/** Removes a message that has no children; the newest of its siblings, if any, is shown then. */
export function removeLast(conversation, id) {
  const { parent } = conversation.nodes[id];
  delete conversation.nodes[id];
  const left = Object.values(conversation.nodes).findLast((node) => node.parent === parent);
  if (left) conversation.chosen[parent] = left.id;
  else delete conversation.chosen[parent];
}

/** The messages that are shown, from the first on. */
export function path(conversation) {
  const nodes = [];
  for (let id = conversation.chosen[""]; id !== undefined; id = conversation.chosen[id]) nodes.push(conversation.nodes[id]);
  return nodes;
}

/** The branches beside a message, itself among them, the oldest first. */
export function siblings(conversation, id) {
  const { parent } = conversation.nodes[id];
  return Object.values(conversation.nodes).filter((node) => node.parent === parent);
}

/** Shows another branch: `step` messages further, at most the last. Gives its message. */
export function choose(conversation, id, step) {
  const all = siblings(conversation, id);
  const at = all.findIndex((node) => node.id === id);
  const node = all[Math.max(0, Math.min(all.length - 1, at + step))];
  conversation.chosen[node.parent] = node.id;
  return node;
}

/** What is sent for a reply under `id`: the messages from the root to it, without thoughts. */
export function history(conversation, id, system) {
  const messages = [];
  for (let at = id; at; at = conversation.nodes[at].parent) {
    const { role, content } = conversation.nodes[at];
    messages.unshift({ role, content });
  }
  return system.trim() ? [{ role: "system", content: system }, ...messages] : messages;
}

export function titleOf(text) {
  const line = text.trim().replace(/\s+/g, " ");
  const letters = [...line];
  return letters.length > 60 ? `${letters.slice(0, 59).join("").trimEnd()}…` : line;
}

/** A clean copy of a conversation from a file. Throws an Error that names the field. */
export function checked(value, where = "conversation") {
  const fail = (field, what) => {
    throw new Error(`${where}.${field}: ${what}`);
  };
  if (typeof value !== "object" || value === null) throw new Error(`${where}: an object is needed`);
  if (typeof value.title !== "string") fail("title", "a text is needed");
  if (typeof value.nodes !== "object" || value.nodes === null) fail("nodes", "an object is needed");
  const ids = Object.keys(value.nodes);
  if (ids.length > MAX_NODES) fail("nodes", `more than ${MAX_NODES} messages`);
  const clean = { ...newConversation(), title: value.title.slice(0, 200) };
  if (isId(value.id)) clean.id = value.id;
  for (const field of ["created", "updated"]) if (isTime(value[field])) clean[field] = value[field];
  for (const id of ids) clean.nodes[id] = checkedNode(value.nodes, id, fail);
  const rooted = new Set();
  for (const id of ids) checkRoot(clean.nodes, id, rooted, fail);
  clean.chosen = checkedChoice(clean.nodes, value.chosen);
  return clean;
}

const isId = (value) => typeof value === "string" && /^[0-9a-f]{1,64}$/.test(value);
const isTime = (value) => Number.isFinite(value) && value >= 0 && value < 8e15;

function checkedNode(nodes, id, fail) {
  const node = nodes[id];
  if (!isId(id)) fail("nodes", "an id is not hexadecimal");
  if (typeof node !== "object" || node === null) fail(`nodes.${id}`, "an object is needed");
  if (node.parent !== "" && !(isId(node.parent) && Object.hasOwn(nodes, node.parent))) fail(`nodes.${id}.parent`, "there is no such message");
  if (!["user", "assistant"].includes(node.role)) fail(`nodes.${id}.role`, '"user" or "assistant" is needed');
  if (typeof node.content !== "string") fail(`nodes.${id}.content`, "a text is needed");
  const clean = { id, parent: node.parent, role: node.role, content: node.content, thought: "" };
  if (typeof node.thought === "string") clean.thought = node.thought;
  for (const name of NUMBERS) if (Number.isFinite(node[name]) && node[name] >= 0) clean[name] = node[name];
  for (const name of TEXTS) if (typeof node[name] === "string") clean[name] = node[name].slice(0, 2000);
  return clean;
}

function checkRoot(nodes, id, rooted, fail) {
  const seen = new Set();
  for (let at = id; at !== "" && !rooted.has(at); at = nodes[at].parent) {
    if (seen.has(at)) fail(`nodes.${id}.parent`, "a message is its own ancestor");
    seen.add(at);
  }
  for (const at of seen) rooted.add(at);
}

/** The chosen children that exist; the newest one where none is chosen. */
function checkedChoice(nodes, chosen) {
  const choice = {};
  for (const node of Object.values(nodes)) choice[node.parent] = node.id;
  for (const [parent, id] of Object.entries(chosen ?? {})) {
    if (Object.hasOwn(nodes, id) && nodes[id].parent === parent) choice[parent] = id;
  }
  return choice;
}
