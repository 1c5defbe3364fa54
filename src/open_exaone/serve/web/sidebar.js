// The list of conversations, and the search over them.

import { by, make, plain } from "./dom.js";
import { t } from "./strings.js";

const DAY = 24 * 3600 * 1000;
const MAX_FOUND = 200;
const AROUND = 40; // characters shown on both sides of what was found

const folded = (text) => text.normalize("NFC").toLowerCase();

export class Sidebar {
  #run = 0; // a later search makes an earlier one stop
  #timer = null;

  /** `store()` gives the store; `open(id)` shows a conversation. */
  constructor(store, open) {
    Object.assign(this, { store, open, current: null });
    by("search").addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.refresh(), 150);
    });
    by("search").addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || event.isComposing || !by("search").value) return;
      by("search").value = "";
      event.stopPropagation();
      this.refresh();
    });
    by("list").addEventListener("keydown", (event) => this.#walk(event));
  }

  /** Draws the list anew: all conversations, or those that hold what is searched for. */
  async refresh() {
    const run = ++this.#run;
    const wanted = folded(by("search").value.trim());
    by("list-note").textContent = wanted ? t("searching") : "";
    const found = wanted ? await this.#search(wanted, run) : await this.store().titles();
    if (run !== this.#run) return;
    by("list-note").textContent = found.length ? "" : t(wanted ? "noMatch" : "none");
    by("list").replaceChildren(...(wanted ? [group(null, found, this)] : this.#byDay(found)));
  }

  async #search(wanted, run) {
    const found = [];
    await this.store().each((conversation) => {
      const snippet = match(conversation, wanted);
      if (snippet !== null) found.push({ ...conversation, snippet });
      return run === this.#run && found.length < MAX_FOUND;
    });
    return found.sort((a, b) => b.updated - a.updated);
  }

  #byDay(titles) {
    const today = new Date().setHours(0, 0, 0, 0);
    const groups = [
      ["dayToday", today],
      ["dayWeek", today - 7 * DAY],
      ["dayMonth", today - 30 * DAY],
      ["dayEarlier", -Infinity],
    ];
    let rest = titles; // the newest first
    return groups.flatMap(([key, since]) => {
      const own = rest.filter(({ updated }) => updated >= since);
      rest = rest.slice(own.length);
      return own.length ? [group(t(key), own, this)] : [];
    });
  }

  #walk(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const all = [...by("list").querySelectorAll("a")];
    const next = all[all.indexOf(document.activeElement) + step];
    next?.focus();
    event.preventDefault();
  }
}

function group(title, conversations, sidebar) {
  const links = conversations.map(({ id, title: name, snippet }) => {
    const follow = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      sidebar.open(id);
    };
    const link = make("a", { href: `#${id}`, onclick: follow, "aria-current": id === sidebar.current ? "page" : null });
    link.append(make("span", { text: plain(name || t("untitled")), dir: "auto" }));
    if (snippet) link.append(make("small", { text: plain(snippet) }));
    return make("li", {}, link);
  });
  const list = make("ul", {}, ...links);
  return title ? make("section", { "aria-label": title }, make("h2", { text: title }), list) : list;
}

/** The text around what was found, "" where the title alone holds it, null where nothing does. */
function match(conversation, wanted) {
  for (const { content } of Object.values(conversation.nodes)) {
    const text = content.normalize("NFC");
    const at = text.toLowerCase().indexOf(wanted);
    if (at !== -1) return text.slice(Math.max(0, at - AROUND), at + wanted.length + AROUND).replace(/\s+/g, " ");
  }
  return folded(conversation.title).includes(wanted) ? "" : null;
}
