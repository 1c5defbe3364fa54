// Anthropic's own client against the server at the address in SERVER.
import assert from "node:assert/strict";
import { test } from "node:test";

import Anthropic from "@anthropic-ai/sdk";
import { betaTool } from "@anthropic-ai/sdk/helpers/beta/json-schema";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";

const client = new Anthropic({ baseURL: process.env.SERVER, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "How much is 3 + 4?" }];
const common = { model: "tiny", messages, max_tokens: 24, temperature: 0, thinking: { type: "enabled", budget_tokens: 6 } };
const inputSchema = {
  type: "object",
  properties: { unit: { enum: ["m", "s"] }, exact: { type: "boolean" } },
  required: ["unit", "exact"],
  additionalProperties: false,
};

test("a streamed message is the whole one, with its thought", async () => {
  const whole = await client.messages.create(common);
  const stream = client.messages.stream(common);
  let thought = "";
  let text = "";
  stream.on("thinking", (delta) => (thought += delta));
  stream.on("text", (delta) => (text += delta));
  const final = await stream.finalMessage();
  assert.deepEqual(final.content.map(({ type }) => type), ["thinking", "text"]);
  assert.equal(thought, whole.content[0].thinking);
  assert.equal(text, whole.content[1].text);
  assert.equal(final.content[0].thinking, thought);
  assert.equal(await stream.finalText(), text);
  assert.equal(final.stop_reason, whole.stop_reason);
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
});

test("a conversation goes on with its thoughts in it", async () => {
  const first = await client.messages.create(common);
  const turns = [...messages, { role: "assistant", content: first.content }, { role: "user", content: "And 5 + 5?" }];
  const counted = await client.messages.countTokens({ model: "tiny", messages: turns });
  const second = await client.messages.create({ ...common, messages: turns });
  assert.equal(second.usage.input_tokens + second.usage.cache_read_input_tokens, counted.input_tokens);
});

test("a stream that is left is aborted, and others go on", async () => {
  const stream = await client.messages.create({ ...common, max_tokens: 600, stream: true });
  for await (const event of stream) {
    assert.equal(event.type, "message_start");
    break; // the client aborts the request then
  }
  assert.ok(stream.controller.signal.aborted);
  assert.ok((await client.messages.create(common)).content.length);
});

test("an answer is parsed by its schema", async () => {
  const format = zodOutputFormat(z.object({ unit: z.enum(["m", "s"]), exact: z.boolean() }));
  const parsed = await client.messages.parse({ ...common, max_tokens: 600, output_config: { format } });
  assert.ok(["m", "s"].includes(parsed.parsed_output.unit));
  assert.equal(typeof parsed.parsed_output.exact, "boolean");
});

for (const stream of [false, true])
  test(`tools are run, their results go on${stream ? ", streamed" : ""}`, async () => {
    const called = [];
    const run = (given) => {
      called.push(given);
      return "7";
    };
    const runner = client.beta.messages.toolRunner({
      ...common,
      max_tokens: 200,
      thinking: { type: "disabled" },
      stream,
      max_iterations: 2,
      tools: [betaTool({ name: "convert", description: "Converts.", inputSchema, run })],
      tool_choice: { type: "tool", name: "convert", disable_parallel_tool_use: true },
    });
    const replies = [];
    for await (const reply of runner) replies.push(stream ? await reply.finalMessage() : reply);
    assert.equal(replies.length, 2);
    assert.ok(replies.every((reply) => reply.stop_reason === "tool_use"));
    assert.ok(called.length >= 1 && called.every((given) => ["m", "s"].includes(given.unit)));
    assert.ok(replies[1].usage.input_tokens + replies[1].usage.cache_read_input_tokens > replies[0].usage.input_tokens);
  });

test("errors have their class", async () => {
  await assert.rejects(client.messages.create({ ...common, model: "other" }), Anthropic.NotFoundError);
  await assert.rejects(client.messages.create({ ...common, top_k: -1 }), Anthropic.BadRequestError);
});
