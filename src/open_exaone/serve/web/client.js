// The server's API. Addresses are relative to the page, so that it also works under a path of a proxy.

import { EventParser } from "./sse.js";
import { t } from "./strings.js";

const KEY = "open-exaone.key";

/** What went wrong, as a sentence. `status`: the HTTP status, 0 where there was no answer. */
export class ServerError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

export function apiKey() {
  try {
    return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY) ?? "";
  } catch {
    return "";
  }
}

export function keepApiKey(key, remember) {
  try {
    localStorage.removeItem(KEY);
    sessionStorage.setItem(KEY, key);
    if (remember) localStorage.setItem(KEY, key);
  } catch {
    // a browser that keeps nothing asks again
  }
}

async function ask(address, options = {}) {
  const headers = { ...options.headers };
  if (apiKey()) headers.Authorization = `Bearer ${apiKey()}`;
  let response;
  try {
    response = await fetch(address, { ...options, headers, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(t("errorReach"));
  }
  if (!response.ok) throw await refusal(response);
  return response;
}

async function refusal(response) {
  const { status } = response;
  let said = "";
  try {
    const { error, detail } = JSON.parse((await response.text()).slice(0, 100_000));
    said = typeof error?.message === "string" ? error.message : typeof detail === "string" ? detail : "";
  } catch {
    // not JSON: the status says what there is to say
  }
  const after = Number(response.headers.get("Retry-After"));
  const wait = after > 0 ? t("retryAfter", { seconds: Math.ceil(after) }) : "";
  const first = status === 401 ? t("apiKeyAsked") : status === 429 || status === 503 ? t("busy") : t("errorServer", { status });
  return new ServerError([first, said.slice(0, 1000), wait].filter(Boolean).join(" "), status);
}

const post = (address, body, signal) =>
  ask(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal });

/** The models that are served: { id, examples }, where examples are { language, text }, messages that a model can answer. */
export async function listModels() {
  const response = await ask("v1/models");
  try {
    const { data } = await response.json();
    return data.filter(({ id }) => typeof id === "string").map(({ id, examples }) => ({ id, examples: Array.isArray(examples) ? examples : [] }));
  } catch {
    throw new ServerError(t("errorUnreadable"), response.status);
  }
}

/** Asks for a reply; gives the chunks of its stream. Ends without "[DONE]" as a ServerError. */
export async function* streamReply(body, signal) {
  const response = await post("v1/chat/completions", body, signal);
  const parser = new EventParser();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    for (;;) {
      const { done, value } = await readFrom(reader);
      if (done) throw new ServerError(t("errorBroken"));
      for (const data of parser.push(value)) {
        if (data === "[DONE]") return;
        yield chunkOf(data);
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function readFrom(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(t("errorBroken"));
  }
}

function chunkOf(data) {
  let chunk;
  try {
    chunk = JSON.parse(data);
  } catch {
    throw new ServerError(t("errorUnreadable"));
  }
  if (chunk?.error) throw new ServerError(String(chunk.error.message ?? t("errorUnreadable")).slice(0, 1000), 500);
  return chunk;
}

/** Ends the thought of a reply that is being generated; the answer begins. */
export const endReasoning = (id) => post(`v1/requests/${encodeURIComponent(id)}/end_reasoning`, {});

/** The fields of a request, from the settings; what is not set is left to the server. */
export function requestBody(messages, settings) {
  const body = {
    model: settings.model || undefined,
    messages,
    stream: true,
    stream_options: { include_usage: true },
    chat_template_kwargs: { enable_thinking: settings.thinking },
  };
  const given = {
    thinking_token_budget: settings.thinking ? settings.budget : null,
    temperature: settings.temperature,
    top_p: settings.topP,
    max_tokens: settings.maxTokens,
    seed: settings.seed,
  };
  for (const [name, value] of Object.entries(given)) if (value !== null) body[name] = value;
  return body;
}

/** The fields of a request that continues a reply: in its thought while it has no answer, else in its answer. */
export function continuationBody(messages, { content, thought }, settings) {
  const reply = { role: "assistant", content, reasoning_content: thought || undefined };
  const body = requestBody([...messages, reply], { ...settings, thinking: Boolean(thought) });
  return { ...body, continue_final_message: true, add_generation_prompt: false };
}
