// Replies that are cut short when the page is closed. IndexedDB may not finish a write then; localStorage does.

const PREFIX = "open-exaone.cut.";

/** Keeps what has come of the replies that are being generated. */
export function keepCut(runs) {
  for (const { conversation, node } of runs) {
    try {
      localStorage.setItem(PREFIX + node.id, JSON.stringify({ conversation: conversation.id, node }));
    } catch {
      // no room: what was kept last holds
    }
  }
}

/** Puts them into their conversations. */
export async function restoreCut(store) {
  for (const [key, text] of Object.entries(localStorage).filter(([key]) => key.startsWith(PREFIX))) {
    localStorage.removeItem(key);
    const { conversation: id, node } = JSON.parse(text);
    const conversation = await store.load(id);
    const kept = conversation?.nodes[node.id];
    if (!kept || kept.finish) continue;
    conversation.nodes[node.id] = { ...node, finish: "interrupted" };
    await store.save(conversation);
  }
}
