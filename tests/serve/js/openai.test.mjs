// OpenAI's own client against the server at the address in SERVER.
import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: `${process.env.SERVER}/v1`, apiKey: "none", maxRetries: 0 });
const messages = [{ role: "user", content: "How much is 3 + 4?" }];
const common = { model: "tiny", messages, max_tokens: 24, temperature: 0, thinking_token_budget: 6 };
const Sum = z.object({ unit: z.enum(["m", "s"]), exact: z.boolean() });
const called = [];
const tool = {
  type: "function",
  function: {
    name: "convert",
    parameters: {
      type: "object",
      properties: { unit: { enum: ["m", "s"] }, exact: { type: "boolean" } },
      required: ["unit", "exact"],
      additionalProperties: false,
    },
    parse: JSON.parse,
    function: (given) => {
      called.push(given);
      return "7";
    },
  },
};

test("a streamed chat is the whole one", async () => {
  const whole = await client.chat.completions.create(common);
  const stream = client.chat.completions.stream({ ...common, stream_options: { include_usage: true } });
  let thought = "";
  let content = "";
  stream.on("chunk", (chunk) => (thought += chunk.choices[0]?.delta?.reasoning ?? ""));
  stream.on("content", (delta) => (content += delta));
  const final = await stream.finalChatCompletion();
  const message = whole.choices[0].message;
  assert.equal(content, message.content);
  assert.equal(final.choices[0].message.content, message.content);
  assert.equal(thought, message.reasoning);
  assert.ok(thought.length > 0 && content.length > 0);
  assert.equal((await stream.totalUsage()).total_tokens, whole.usage.total_tokens);
  assert.equal(final.usage.completion_tokens, whole.usage.completion_tokens);
});

test("a stream that is left is aborted, and others go on", async () => {
  const stream = await client.chat.completions.create({ ...common, max_tokens: 600, stream: true });
  for await (const chunk of stream) {
    assert.ok(chunk.choices.length);
    break; // the client aborts the request then
  }
  assert.ok(stream.controller.signal.aborted);
  assert.ok((await client.chat.completions.create(common)).choices.length);
});

test("log-probabilities of a stream are those of the whole", async () => {
  const options = { ...common, logprobs: true, top_logprobs: 3 };
  const whole = await client.chat.completions.create(options);
  const stream = client.chat.completions.stream(options);
  const seen = [];
  stream.on("chunk", (chunk) => seen.push(...(chunk.choices[0]?.logprobs?.content ?? [])));
  await stream.done();
  assert.deepEqual(seen, whole.choices[0].logprobs.content);
  assert.ok(seen.every((token) => token.top_logprobs.length === 3));
});

test("an answer is parsed by its schema", async () => {
  const options = { ...common, max_tokens: undefined, response_format: zodResponseFormat(Sum, "sum") };
  const parsed = await client.chat.completions.parse(options);
  assert.ok(["m", "s"].includes(parsed.choices[0].message.parsed.unit));
  const final = await client.chat.completions.stream(options).finalChatCompletion();
  assert.deepEqual(final.choices[0].message.parsed, parsed.choices[0].message.parsed);
});

for (const stream of [false, true])
  test(`tools are run, their results go on${stream ? ", streamed" : ""}`, async () => {
    called.length = 0;
    const options = { ...common, max_tokens: 200, temperature: 1, seed: 3, stream, tools: [tool], parallel_tool_calls: false };
    const runner = client.chat.completions.runTools({ ...options, tool_choice: "required" }, { maxChatCompletions: 2 });
    await runner.done();
    assert.deepEqual(runner.messages.map((message) => message.role), ["user", "assistant", "tool", "assistant", "tool"]);
    assert.equal(called.length, 2);
    assert.ok(called.every((given) => ["m", "s"].includes(given.unit) && typeof given.exact === "boolean"));
    const choice = { type: "function", function: { name: "convert" } };
    assert.equal(await client.chat.completions.runTools({ ...options, tool_choice: choice }).finalFunctionToolCallResult(), "7");
  });

test("a streamed response is the whole one", async () => {
  const options = { model: "tiny", input: "How much is 3 + 4?", temperature: 0, max_output_tokens: 20, reasoning: { effort: "medium" } };
  const whole = await client.responses.create(options);
  const stream = client.responses.stream(options);
  let text = "";
  stream.on("response.output_text.delta", (event) => (text += event.delta));
  const final = await stream.finalResponse();
  assert.equal(text, whole.output_text);
  assert.deepEqual(final.output.map((item) => item.type), ["reasoning", "message"]);
  assert.equal(final.output[0].content[0].text, whole.output[0].content[0].text);
  const next = await client.responses.create({ ...options, input: "And 5 + 5?", previous_response_id: final.id });
  assert.ok(next.usage.input_tokens > whole.usage.input_tokens);
});

test("a response is parsed by its schema", async () => {
  const options = { model: "tiny", input: "3 m?", temperature: 0, reasoning: { effort: "none" } };
  const parsed = await client.responses.parse({ ...options, text: { format: zodTextFormat(Sum, "sum") } });
  assert.ok(["m", "s"].includes(parsed.output_parsed.unit));
});

test("a response calls a tool, and its result goes on", async () => {
  const { parse, function: run, ...description } = tool.function;
  const options = { model: "tiny", temperature: 0, reasoning: { effort: "none" }, tools: [{ type: "function", strict: true, ...description }] };
  const stream = client.responses.stream({ ...options, input: "3 m?", tool_choice: "required", parallel_tool_calls: false });
  const first = await stream.finalResponse();
  const [call] = first.output;
  assert.equal(call.type, "function_call");
  assert.ok("unit" in JSON.parse(call.arguments));
  const output = { type: "function_call_output", call_id: call.call_id, output: run(parse(call.arguments)) };
  const second = await client.responses.create({ ...options, input: [output], previous_response_id: first.id, max_output_tokens: 8 });
  assert.ok(second.usage.input_tokens > first.usage.input_tokens);
});

test("errors have their class", async () => {
  await assert.rejects(client.chat.completions.create({ ...common, model: "other" }), OpenAI.NotFoundError);
  await assert.rejects(client.chat.completions.create({ ...common, temperature: -1 }), (error) => {
    return error instanceof OpenAI.BadRequestError && error.param === "temperature";
  });
});
