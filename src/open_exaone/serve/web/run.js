// A reply that is being generated: reads the stream into its message and keeps the times and counts.

import { endReasoning, ServerError, streamReply } from "./client.js";

export class Run {
  #controller = new AbortController();
  #began;
  #before; // the counts of a reply that is continued
  #usage = null;
  #pieces = { thought: 0, content: 0 }; // pieces of the stream, about one a token, until the server counts

  /** `changed(run)` is called after each piece of the stream. */
  constructor(conversation, node, body, changed) {
    Object.assign(this, { conversation, node, body, changed, id: null, ending: false });
    this.#before = { tokens: node.tokens ?? 0, thought: node.thoughtTokens ?? 0, ms: node.ms ?? 0 };
    this.#began = performance.now() - this.#before.ms;
    if (node.thought) this.thoughtBegan = (node.ms ?? 0) - (node.thoughtMs ?? 0);
  }

  get phase() {
    if (this.node.content) return "answering";
    return this.node.thought ? "thinking" : "waiting";
  }

  get elapsed() {
    return performance.now() - this.#began;
  }

  stop() {
    this.#controller.abort();
  }

  /** Asks the server to end the thought. */
  async endThought() {
    this.ending = true;
    this.changed(this);
    await endReasoning(this.id).catch(() => (this.ending = false));
  }

  /** Reads the stream to its end. Never throws: what went wrong is in `node.error`. `status` is the HTTP status then. */
  async read() {
    const { node } = this;
    try {
      for await (const chunk of streamReply(this.body, this.#controller.signal)) this.#take(chunk);
      node.finish ??= "stop";
    } catch (error) {
      if (error.name === "AbortError") node.finish = "stopped";
      else this.#fail(error);
    }
    this.tick();
  }

  #fail(error) {
    this.node.finish = "error";
    this.node.error = error.message;
    this.status = error instanceof ServerError ? error.status : 0;
    if (!(error instanceof ServerError)) console.warn(error);
  }

  #take(chunk) {
    if (typeof chunk?.id === "string") this.id = chunk.id;
    if (chunk?.usage) this.#usage = chunk.usage;
    const choice = chunk?.choices?.[0];
    const delta = choice?.delta ?? {};
    this.#add("thought", delta.reasoning_content ?? delta.reasoning);
    this.#add("content", delta.content);
    if (typeof choice?.finish_reason === "string") this.node.finish = choice.finish_reason;
    this.#count();
    this.changed(this);
  }

  #add(field, text) {
    if (typeof text !== "string" || text === "") return;
    const { node } = this;
    const isFirst = this.#pieces.thought + this.#pieces.content === 0;
    if (isFirst && this.#before.tokens) this.#began = performance.now() - this.#before.ms; // waiting is no part of the speed
    node.firstMs ??= this.elapsed;
    if (field === "content" && node.thought && !node.content) node.thoughtMs = this.elapsed - this.thoughtBegan;
    if (field === "thought") this.thoughtBegan ??= this.elapsed;
    node[field] += text;
    this.#pieces[field]++;
  }

  #count() {
    const { node } = this;
    const usage = this.#usage ?? {};
    const thought = usage.completion_tokens_details?.reasoning_tokens;
    node.tokens = this.#before.tokens + (usage.completion_tokens ?? this.#pieces.thought + this.#pieces.content);
    node.thoughtTokens = this.#before.thought + (thought ?? this.#pieces.thought);
    if (usage.prompt_tokens !== undefined) node.promptTokens ??= usage.prompt_tokens;
    this.tick();
  }

  /** Brings the times up to now. */
  tick() {
    const { node } = this;
    node.ms = this.elapsed;
    if (node.thought && !node.content) node.thoughtMs = this.elapsed - this.thoughtBegan;
  }
}

/** Tokens a second of a reply, from its first token on; null where there is too little to tell. */
export function speedOf({ tokens, firstMs, ms }) {
  const time = ms - firstMs;
  return tokens > 1 && time > 20 ? ((tokens - 1) * 1000) / time : null;
}
