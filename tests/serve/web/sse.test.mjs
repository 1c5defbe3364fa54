import assert from "node:assert/strict";
import test from "node:test";

import { EventParser } from "../../../src/open_exaone/serve/web/sse.js";

const STREAM = 'data: {"a": 1}\n\n: a comment\n\nevent: x\ndata:two\r\ndata: lines\r\n\r\ndata: 생각\n\ndata: [DONE]\n\n';
const EVENTS = ['{"a": 1}', "two\nlines", "생각", "[DONE]"];

test("however the stream is cut, the events are the same", () => {
  for (let size = 1; size <= STREAM.length; size++) {
    const parser = new EventParser();
    const events = [];
    for (let at = 0; at < STREAM.length; at += size) events.push(...parser.push(STREAM.slice(at, at + size)));
    assert.deepEqual(events, EVENTS, `pieces of ${size}`);
  }
});

test("an event without its blank line is not given", () => {
  assert.deepEqual(new EventParser().push("data: half\n"), []);
});

test("an event without end is refused", () => {
  const parser = new EventParser();
  assert.throws(() => {
    for (let i = 0; i < 40; i++) parser.push("data: " + "x".repeat(1_000_000) + "\n");
  }, /too long/);
});
