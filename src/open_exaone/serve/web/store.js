// Conversations in IndexedDB: whole ones in "conversations", and what the list shows in "titles".

const NAME = "open-exaone";

const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

export class Store {
  /** Opens the database. Rejects where the browser keeps none, as in some private windows. */
  static async open() {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("conversations", { keyPath: "id" });
      request.result.createObjectStore("titles", { keyPath: "id" });
    };
    const store = new Store(await done(request));
    store.database.onversionchange = () => store.database.close();
    return store;
  }

  constructor(database) {
    this.database = database;
  }

  #write(change) {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction(["conversations", "titles"], "readwrite");
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error ?? new DOMException("aborted", "AbortError"));
      change(transaction.objectStore("conversations"), transaction.objectStore("titles"));
    });
  }

  /** Keeps a conversation. Rejects with a QuotaExceededError where there is no room. */
  save(conversation) {
    const { id, title, updated } = conversation;
    return this.#write((conversations, titles) => {
      conversations.put(conversation);
      titles.put({ id, title, updated });
    });
  }

  remove(id) {
    return this.#write((conversations, titles) => {
      conversations.delete(id);
      titles.delete(id);
    });
  }

  load(id) {
    return done(this.database.transaction("conversations").objectStore("conversations").get(id));
  }

  /** {id, title, updated} of every conversation, the newest first. */
  async titles() {
    const found = await done(this.database.transaction("titles").objectStore("titles").getAll());
    return found.sort((a, b) => b.updated - a.updated);
  }

  /** Calls `visit(conversation)` for each one, one at a time in memory, until it gives false. */
  each(visit) {
    return new Promise((resolve, reject) => {
      const request = this.database.transaction("conversations").objectStore("conversations").openCursor();
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const cursor = request.result;
        if (cursor && visit(cursor.value) !== false) cursor.continue();
        else resolve();
      };
    });
  }
}

/** The same, for as long as the page is open. */
export class MemoryStore {
  #kept = new Map();

  async save(conversation) {
    this.#kept.set(conversation.id, conversation);
  }

  async remove(id) {
    this.#kept.delete(id);
  }

  async load(id) {
    return this.#kept.get(id);
  }

  async titles() {
    const all = [...this.#kept.values()].map(({ id, title, updated }) => ({ id, title, updated }));
    return all.sort((a, b) => b.updated - a.updated);
  }

  async each(visit) {
    for (const conversation of this.#kept.values()) if (visit(conversation) === false) return;
  }
}
