// The shown messages of a conversation.

import { announce, by, copyText, icon, iconButton, make, plain } from "./dom.js";
import { MarkdownView } from "./render.js";
import { speedOf } from "./run.js";
import { number, seconds, t, tokens } from "./strings.js";
import { path, siblings } from "./tree.js";

const NEAR = 60; // px from the end within which the view follows a growing reply
const FINISHES = { stopped: "finishStopped", length: "finishLength", interrupted: "finishInterrupted" };

/** Whether a reply ended before the model ended it, with something to continue. */
export const canContinue = (node) =>
  node.role === "assistant" && Boolean(node.content || node.thought) && (node.finish in FINISHES || Boolean(node.error));

export class Thread {
  #views = new Map(); // node id -> its view
  #follow = true;

  /** `actions`: edit(node, text), regenerate(node), resume(node), choose(node, step), endThought(node), runOf(node). */
  constructor(actions) {
    this.actions = actions;
    this.element = by("thread");
    this.scroller = by("scroll");
    this.scroller.addEventListener("scroll", () => this.#scrolled());
    new ResizeObserver(() => this.#keepUp()).observe(this.element);
    new ResizeObserver(() => this.#keepUp()).observe(this.scroller);
    by("jump").addEventListener("click", () => this.follow());
  }

  /** Shows the chosen branch of a conversation; views that stay are kept. */
  show(conversation) {
    const nodes = path(conversation);
    const kept = new Set(nodes.map((node) => node.id));
    for (const [id, view] of this.#views) if (!kept.has(id)) this.#drop(id, view);
    for (const node of nodes) {
      let view = this.#views.get(node.id);
      if (view?.node !== node) {
        if (view) this.#drop(node.id, view);
        view = new (node.role === "user" ? UserView : ReplyView)(node, this.actions);
        this.#views.set(node.id, view);
      }
      this.element.append(view.element);
      view.showBranches(conversation);
      view.update();
    }
  }

  update(node) {
    this.#views.get(node.id)?.update();
  }

  edit(node) {
    this.#views.get(node.id)?.edit();
  }

  /** Goes to the end and stays there while the reply grows. */
  follow() {
    this.#follow = true;
    this.#keepUp();
    this.#scrolled();
  }

  toggleThought() {
    const views = [...this.#views.values()].reverse();
    views.find((view) => view.node.thought)?.toggleThought();
  }

  #drop(id, view) {
    view.stop();
    view.element.remove();
    this.#views.delete(id);
  }

  #keepUp() {
    if (this.#follow) this.scroller.scrollTop = this.scroller.scrollHeight;
    else this.#scrolled();
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    const left = scrollHeight - scrollTop - clientHeight;
    this.#follow = left < NEAR;
    by("jump").hidden = left < 300;
  }
}

class MessageView {
  constructor(node, actions, kind) {
    Object.assign(this, { node, actions });
    this.branches = make("span", { class: "branches" });
    this.tools = make("div", { class: "tools" }, this.branches);
    this.element = make("article", { class: `message ${kind}`, "aria-label": t(kind) });
  }

  showBranches(conversation) {
    this.isLast = conversation.chosen[this.node.id] === undefined;
    const all = siblings(conversation, this.node.id);
    this.branches.replaceChildren();
    if (all.length < 2) return;
    const at = all.findIndex(({ id }) => id === this.node.id);
    const step = (name, label, offset, last) =>
      iconButton(name, t(label), () => this.actions.choose(this.node, offset), { disabled: at === last, "data-step": offset });
    this.branches.append(
      step("back", "branchPrevious", -1, 0),
      make("span", { text: `${at + 1}/${all.length}`, "aria-label": t("branch", { at: at + 1, of: all.length }), role: "img" }),
      step("next", "branchNext", 1, all.length - 1),
    );
  }

  copyButton(label) {
    const button = iconButton("copy", t(label), async () => {
      const copied = await copyText(this.node.content).then(() => true, () => false); // prettier-ignore
      if (!copied) return (button.title = t("notCopied"));
      button.replaceChildren(icon("done"));
      setTimeout(() => button.replaceChildren(icon("copy")), 1500);
    });
    return button;
  }

  update() {}
  stop() {}
  edit() {}
}

class UserView extends MessageView {
  constructor(node, actions) {
    super(node, actions, "user");
    this.bubble = make("div", { class: "bubble", text: plain(node.content) });
    this.tools.append(this.copyButton("copyText"), iconButton("edit", t("edit"), () => this.edit(), { "data-action": "edit" }));
    this.element.append(this.bubble, this.tools);
  }

  /** Opens a field with the message; sending it begins a branch beside this one. */
  edit() {
    if (this.element.classList.contains("editing")) return;
    const area = make("textarea", { "aria-label": t("edit"), rows: Math.min(12, this.node.content.split("\n").length + 1) });
    area.value = this.node.content;
    const close = () => {
      box.remove();
      this.element.classList.remove("editing");
    };
    const send = () => {
      if (!area.value.trim()) return;
      close();
      this.actions.edit(this.node, area.value);
    };
    area.addEventListener("keydown", (event) => {
      if (sends(event)) send();
      else if (event.key !== "Escape" || event.isComposing) return;
      else close();
      event.preventDefault();
      event.stopPropagation();
    });
    const buttons = make(
      "div",
      { class: "dialog-foot" },
      make("button", { type: "button", class: "quiet", text: t("cancel"), onclick: close }),
      make("button", { type: "button", class: "strong", text: t("sendEdit"), onclick: send }),
    );
    const box = make("div", { class: "edit" }, area, buttons);
    this.element.prepend(box);
    this.element.classList.add("editing");
    area.focus();
  }
}

/** Whether a key press sends. Enter that ends the composition of a Korean syllable does not. */
export function sends(event) {
  return event.key === "Enter" && !event.shiftKey && !event.isComposing && event.keyCode !== 229;
}

class ReplyView extends MessageView {
  #live = false; // it was generated while it was shown

  constructor(node, actions) {
    super(node, actions, "assistant");
    this.touched = false; // the reader has folded or unfolded the thought
    this.label = make("span", { class: "thought-label" });
    this.summary = make("summary", { onclick: () => (this.touched = true) }, this.label);
    this.thoughtText = make("div", { class: "markdown thought-text", tabindex: "0" });
    this.thought = make("details", { ontoggle: () => this.#showThought() }, this.summary, this.thoughtText);
    this.endButton = make("button", { type: "button", class: "chip", hidden: true, text: t("answerNow"), onclick: () => actions.endThought(node) });
    this.thoughtBox = make("div", { class: "thought", hidden: true }, this.thought, this.endButton);
    this.answer = make("div", { class: "markdown answer" });
    this.waiting = make("p", { class: "waiting", text: t("waiting") });
    this.silent = make("p", { class: "small", text: t("noAnswer") });
    this.error = make("div", { class: "error", role: "alert", hidden: true });
    this.stats = make("span", { class: "stats" });
    const again = iconButton("again", t("regenerate"), () => actions.regenerate(node), { "data-action": "again" });
    this.more = make("button", { type: "button", class: "chip", hidden: true, text: t("continue"), onclick: () => actions.resume(node), "data-action": "continue" });
    this.tools.append(this.copyButton("copyReply"), again, this.stats, this.more);
    this.element.append(this.thoughtBox, this.answer, this.waiting, this.silent, this.error, this.tools);
    this.thoughtView = new MarkdownView(this.thoughtText);
    this.answerView = new MarkdownView(this.answer, (element) => this.#announce(element));
    new ResizeObserver(() => this.#followThought()).observe(this.thoughtText);
  }

  update() {
    const run = this.actions.runOf(this.node);
    const phase = run?.phase ?? "finished";
    this.#live ||= Boolean(run);
    this.element.dataset.phase = phase;
    this.waiting.hidden = phase !== "waiting";
    this.silent.hidden = Boolean(run || this.node.content || this.node.error);
    this.#updateThought(run, phase);
    this.answerView.update(this.node.content, !run);
    this.tools.classList.toggle("running", Boolean(run));
    this.more.hidden = Boolean(run) || !this.isLast || !canContinue(this.node);
    this.stats.textContent = this.#stats(run);
    this.stats.title = this.node.promptTokens ? t("usage", { prompt: number(this.node.promptTokens), tokens: number(this.node.tokens) }) : "";
    this.#showError();
  }

  stop() {
    this.thoughtView.stop();
    this.answerView.stop();
  }

  toggleThought() {
    this.touched = true;
    this.thought.open = !this.thought.open;
  }

  #updateThought(run, phase) {
    const { node } = this;
    this.thoughtBox.hidden = !node.thought;
    this.thoughtBox.classList.toggle("live", phase === "thinking");
    if (!node.thought) return;
    if (!this.touched) this.thought.open = phase === "thinking";
    this.endButton.hidden = phase !== "thinking" || !run.id;
    this.endButton.disabled = Boolean(run?.ending);
    const spent = node.thoughtMs === undefined ? "" : seconds(node.thoughtMs);
    const head = phase === "thinking" ? `${t("thinking")} · ${t("time", { seconds: spent })}` : spent ? t("thoughtFor", { seconds: spent }) : t("thought");
    this.label.textContent = node.thoughtTokens ? `${head} · ${tokens(node.thoughtTokens)}` : head;
    this.#showThought();
  }

  /** A folded thought is not built. */
  #showThought() {
    if (this.thought.open) this.thoughtView.update(this.node.thought, this.element.dataset.phase !== "thinking");
    else this.thoughtView.stop();
  }

  #followThought() {
    if (this.element.dataset.phase !== "thinking") return;
    const text = this.thoughtText;
    if (text.scrollHeight - text.scrollTop - text.clientHeight < 200) text.scrollTop = text.scrollHeight;
  }

  #stats(run) {
    const { node } = this;
    const shown = [];
    if (node.tokens) shown.push(tokens(node.tokens));
    const speed = speedOf(node);
    if (speed !== null) shown.push(t("speed", { speed: number(speed, speed < 10 ? 1 : 0) }));
    if (!run && FINISHES[node.finish]) shown.push(t(FINISHES[node.finish]));
    return shown.join(" · ");
  }

  #showError() {
    const { error } = this.node;
    this.error.hidden = !error;
    if (!error) return this.error.replaceChildren();
    if (this.error.childElementCount) return;
    const again = make("button", { type: "button", class: "chip", text: t("again"), onclick: () => this.actions.regenerate(this.node) });
    this.error.append(make("span", { text: plain(error) }), again);
  }

  /** Screen readers hear each finished block of a reply that is being generated. */
  #announce(element) {
    if (this.#live) announce(element.textContent.slice(0, 2000));
  }
}
