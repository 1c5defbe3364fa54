import assert from "node:assert/strict";
import test from "node:test";

import { addMessage, checked, choose, history, newConversation, path, removeLast, siblings, titleOf } from "../../../src/open_exaone/serve/web/tree.js";

const ID = "0123456789abcdef";

function talk() {
  const conversation = newConversation(1);
  const ask = addMessage(conversation, "", { role: "user", content: "one" }, 2);
  const reply = addMessage(conversation, ask.id, { role: "assistant", content: "first", thought: "hm" }, 3);
  return { conversation, ask, reply };
}

const contents = (conversation) => path(conversation).map(({ content }) => content);

test("asking again and editing add branches; switching shows the old ones whole", () => {
  const { conversation, ask, reply } = talk();
  const second = addMessage(conversation, reply.id, { role: "user", content: "two" }, 4);
  addMessage(conversation, ask.id, { role: "assistant", content: "again" }, 5);
  assert.deepEqual(contents(conversation), ["one", "again"]);
  choose(conversation, reply.id, 0);
  assert.deepEqual(contents(conversation), ["one", "first", "two"]);
  addMessage(conversation, second.parent, { role: "user", content: "edited" }, 6);
  assert.deepEqual(contents(conversation), ["one", "first", "edited"]);
  assert.deepEqual(siblings(conversation, second.id).map(({ content }) => content), ["two", "edited"]);
  choose(conversation, second.id, -5);
  assert.deepEqual(contents(conversation), ["one", "first", "two"]);
  choose(conversation, second.id, 1);
  assert.deepEqual(contents(conversation), ["one", "first", "edited"]);
});

test("thoughts are not sent back; the system prompt comes first", () => {
  const { conversation, reply } = talk();
  assert.deepEqual(history(conversation, reply.id, " "), [
    { role: "user", content: "one" },
    { role: "assistant", content: "first" },
  ]);
  assert.deepEqual(history(conversation, reply.id, "Be brief.")[0], { role: "system", content: "Be brief." });
});

test("a reply that failed gives way to its sibling", () => {
  const { conversation, ask, reply } = talk();
  const failed = addMessage(conversation, ask.id, { role: "assistant", content: "" });
  removeLast(conversation, failed.id);
  assert.deepEqual(contents(conversation), ["one", "first"]);
  removeLast(conversation, reply.id);
  assert.deepEqual(contents(conversation), ["one"]);
});

test("a conversation from a file comes out as it went in", () => {
  const { conversation } = talk();
  assert.deepEqual(checked(JSON.parse(JSON.stringify(conversation))), conversation);
});

const node = (changes = {}) => ({ id: ID, parent: "", role: "user", content: "x", ...changes });
const WRONG = [
  [null, "an object is needed"],
  [{ title: 1, nodes: {} }, "c.title"],
  [{ title: "", nodes: [node()] , chosen: 1 }, null],
  [{ title: "", nodes: { xyz: node() } }, "not hexadecimal"],
  [{ title: "", nodes: { [ID]: null } }, "c.nodes."],
  [{ title: "", nodes: { [ID]: node({ parent: "ff" }) } }, "there is no such message"],
  [{ title: "", nodes: { [ID]: node({ parent: ID }) } }, "its own ancestor"],
  [{ title: "", nodes: { aa: node({ parent: "bb" }), bb: node({ parent: "aa" }) } }, "its own ancestor"],
  [{ title: "", nodes: { [ID]: node({ role: "system" }) } }, "role"],
  [{ title: "", nodes: { [ID]: node({ content: {} }) } }, "content"],
];

test("what is wrong in a file is named", () => {
  for (const [value, why] of WRONG) {
    if (why) assert.throws(() => checked(value, "c"), (error) => error.message.includes(why), why); // prettier-ignore
    else checked(value, "c");
  }
});

test("fields that are not known do not come in", () => {
  const value = JSON.parse(`{"title": "", "nodes": {"${ID}": {"parent": "", "role": "user", "content": "x", "thought": 5, "tokens": -1, "evil": 1}}, "chosen": {"__proto__": "${ID}", "": "nothing"}}`);
  const clean = checked(value);
  assert.deepEqual(clean.nodes[ID], { id: ID, parent: "", role: "user", content: "x", thought: "" });
  assert.deepEqual(clean.chosen, { "": ID });
});

test("titles are one short line", () => {
  assert.equal(titleOf("  a\n b "), "a b");
  assert.equal([...titleOf("가".repeat(100))].length, 60);
});
