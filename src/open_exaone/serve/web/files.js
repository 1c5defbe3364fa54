// Export and import of conversations as JSON.

import { make } from "./dom.js";
import { checked, newId } from "./tree.js";

const FORMAT = "open-exaone-chat";
const MAX_FILE = 256 * 1024 * 1024; // bytes

/** Offers a file with the conversations that `each(visit)` visits. */
export async function exportFile(each, name) {
  const parts = [`{"format":"${FORMAT}","version":1,"conversations":[`];
  await each((conversation) => {
    parts.push(parts.length > 1 ? ",\n" : "\n", JSON.stringify(conversation));
  });
  parts.push("\n]}\n");
  const address = URL.createObjectURL(new Blob(parts, { type: "application/json" }));
  make("a", { href: address, download: `${name}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

/** The conversations of a file's text, checked. Throws an Error that says what is wrong. */
export function readExport(text) {
  const file = JSON.parse(text);
  if (file?.format !== FORMAT) throw new Error(`"format": "${FORMAT}" is needed.`);
  if (file.version !== 1) throw new Error('"version": 1 is needed.');
  if (!Array.isArray(file.conversations)) throw new Error('"conversations": a list is needed.');
  return file.conversations.map((value, i) => checked(value, `conversations[${i}]`));
}

/** Adds a file's conversations. One that is here and has not changed is left; one that differs becomes a copy. */
export async function importFile(file, store, tooLarge) {
  if (file.size > MAX_FILE) throw new Error(tooLarge);
  const count = { imported: 0, known: 0 };
  for (const conversation of readExport(await file.text())) {
    const here = await store.load(conversation.id);
    if (here && here.updated === conversation.updated) {
      count.known++;
      continue;
    }
    if (here) conversation.id = newId();
    await store.save(conversation);
    count.imported++;
  }
  return count;
}
