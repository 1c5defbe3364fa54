// Code to pieces {kind, text}: comments, strings, numbers, words of the language, and the rest (kind null).

const MAX_CODE = 50_000; // characters; longer code is shown plain

const STRINGS = String.raw`"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'`;
const HASH = String.raw`#[^\n]*`;
const SLASHES = String.raw`\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)`;
const DASHES = String.raw`--[^\n]*`;
const words = (text) => new Set(text.split(" "));

const C = "auto bool break case char class const continue default delete do double else enum extern false float for goto if inline int long namespace new nullptr private protected public return short signed sizeof static struct switch template this throw true try catch typedef typename union unsigned using virtual void volatile while";
const JS = "async await break case catch class const continue default delete do else export extends false finally for from function if import in instanceof let new null of return static super switch this throw true try typeof undefined var void while yield interface type enum";
const LANGUAGES = {
  python: [HASH, String.raw`[rbfRBF]{0,2}(?:"""[^]*?(?:"""|$)|'''[^]*?(?:'''|$)|${STRINGS})`, "and as assert async await break class continue def del elif else except False finally for from global if import in is lambda match case None nonlocal not or pass raise return True try while with yield"],
  javascript: [SLASHES, `${STRINGS}|${"`(?:\\\\.|[^`\\\\])*(?:`|$)"}`, JS],
  c: [SLASHES, STRINGS, C],
  java: [SLASHES, STRINGS, `${C} abstract boolean byte extends final finally implements import instanceof interface null package super synchronized throws var`],
  go: [SLASHES, `${STRINGS}|${"`[^`]*(?:`|$)"}`, "break case chan const continue default defer else false for func go if import interface map nil package range return select struct switch true type var"],
  rust: [SLASHES, String.raw`"(?:\\.|[^"\\])*"`, "as async await break const continue crate else enum extern false fn for if impl in let loop match mod move mut pub ref return self Self static struct super trait true type unsafe use where while"],
  shell: [HASH, STRINGS, "case do done elif else esac export fi for function if in local return then until while"],
  sql: [DASHES, STRINGS, "add alter and as asc by case create delete desc distinct drop else end exists from full group having in index inner insert into is join left like limit not null on or order outer primary key right select set table then union unique update values view when where with"],
  data: [HASH, STRINGS, "true false null yes no"],
}; // prettier-ignore
const NAMES = {
  py: "python", python3: "python", js: "javascript", jsx: "javascript", ts: "javascript", tsx: "javascript", typescript: "javascript",
  "c++": "c", cpp: "c", cc: "c", h: "c", hpp: "c", cuda: "c", cs: "java", csharp: "java", kotlin: "java", kt: "java", golang: "go", rs: "rust",
  bash: "shell", sh: "shell", zsh: "shell", console: "shell", json: "data", yaml: "data", yml: "data", toml: "data", ini: "data",
}; // prettier-ignore

/** The pieces of a text; one piece where the language is not known. */
export function highlight(text, language) {
  const name = language.toLowerCase();
  const known = Object.hasOwn(LANGUAGES, name) ? name : Object.hasOwn(NAMES, name) ? NAMES[name] : null;
  if (!known || text.length > MAX_CODE) return [{ kind: null, text }];
  const [comments, strings, list] = LANGUAGES[known];
  const keywords = words(list);
  const token = new RegExp(`(?<comment>${comments})|(?<string>${strings})|(?<number>\\b\\d[\\w.]*)|(?<word>[\\p{L}_][\\p{L}\\p{N}_]*)`, "gu");
  const pieces = [];
  let done = 0;
  for (const { 0: found, index, groups } of text.matchAll(token)) {
    const kind = kindOf(groups, known === "sql" ? found.toLowerCase() : found, keywords);
    if (!kind) continue;
    if (index > done) pieces.push({ kind: null, text: text.slice(done, index) });
    pieces.push({ kind, text: found });
    done = index + found.length;
  }
  if (done < text.length) pieces.push({ kind: null, text: text.slice(done) });
  return pieces;
}

function kindOf(groups, found, keywords) {
  if (groups.word !== undefined) return keywords.has(found) ? "keyword" : null;
  return groups.comment !== undefined ? "comment" : groups.string !== undefined ? "string" : "number";
}
