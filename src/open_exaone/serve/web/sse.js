// Server-sent events, as OpenAI's API sends them: text in pieces of any size in, the data of whole events out.

const MAX_EVENT = 16 * 1024 * 1024; // characters; a server that never ends an event is cut off

export class EventParser {
  #rest = "";
  #data = [];
  #size = 0;

  /** Takes a piece of the stream; gives the data of every event that it completes. */
  push(piece) {
    const text = this.#rest + piece;
    const events = [];
    let start = 0;
    for (let from = Math.max(0, this.#rest.length - 1); ; from = start) {
      const end = lineEnd(text, from);
      if (end === -1) break;
      this.#line(text.slice(start, end), events);
      start = end + (text[end] === "\r" && text[end + 1] === "\n" ? 2 : 1);
    }
    this.#rest = text.slice(start);
    if (this.#rest.length + this.#size > MAX_EVENT) throw new Error("An event of the stream is too long.");
    return events;
  }

  #line(line, events) {
    if (line === "") {
      if (this.#data.length) events.push(this.#data.join("\n"));
      this.#data = [];
      this.#size = 0;
    } else if (line.startsWith("data:")) {
      const data = line.slice(line[5] === " " ? 6 : 5);
      this.#data.push(data);
      this.#size += data.length;
    } // comments, ids and names of events are of no use here
  }
}

/** Where the line ends that goes on at `from`, or -1. A CR at the very end may be half of a CR LF. */
function lineEnd(text, from) {
  const sign = /[\r\n]/g;
  sign.lastIndex = from;
  const found = sign.exec(text)?.index ?? -1;
  return text[found] === "\r" && found + 1 === text.length ? -1 : found;
}
