"""Multiple choice: which option a reply settles on, and whether it is the right one.

A box that names an option decides, unless a final answer behind it names another; without one, the last phrase that
announces an answer; without one, a reply that is little more than a label. A label in passing is no answer, and a reply
that settles on two options has settled on none.
docs/judging-choice-language.md holds the rules and what was measured.
"""

import re
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from open_exaone.base.errors import DataError
from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.verify import choice_words as words
from open_exaone.verify.choice_words import FORMS, Patterns, flatten, label_in
from open_exaone.verify.extract import CLAUSE_END, announcements, box_spans, clean, section, trim
from open_exaone.verify.settings import JudgeSettings

NUM_LETTERS = 10  # without options and labels, A to J
_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LETTERS = tuple(_ALPHABET[:NUM_LETTERS])
_MAX_STATEMENT = 4000  # characters that are read as one answer, more where an option is longer
_MAX_ANNOUNCED = 100_000  # characters at the end of a reply without a box that are searched for a cue,
_MAX_ALONE = 10_000  # and for a lone label
_MAX_CLAUSE = 300  # characters that are read before a cue,
_MAX_GAP = 80  # behind it, and between answers that are joined
_MAX_TAKEN_BACK = 200  # characters behind an announced answer that may take it back
_OUTER_FONT = re.compile(r"\A\\text[a-z]{0,2}\{(.*)\}\Z", re.DOTALL)
_QUOTES = "'\"“”‘’「」『』 "
_NUM_CUES = 16  # the last ones are looked at


@dataclass(frozen=True)
class _Reading:
    """What a statement settles on: something else than an option (no label), one option, or several."""

    labels: frozenset[str]
    text: str  # as in the reply


@dataclass(frozen=True)
class _Choices:
    """The labels and options of one problem."""

    labels: tuple[str, ...]
    options: tuple[str, ...]  # none, or as many as labels
    patterns: Patterns
    max_text_chars: int  # what is longer is no option's text,
    max_chars: int  # and names no option

    @cached_property
    def texts(self) -> Sequence[Mapping[str, frozenset[str]]]:
        """The labels of each option's text: exactly, undressed, folded."""
        return [_index(self.labels, list(map(form, self.options))) for form in FORMS]

    @cached_property
    def flat_texts(self) -> Mapping[str, frozenset[str]]:
        """The labels of each option's text as it looks once `flatten` has gone over it."""
        return _index(self.labels, [_key(flatten(option, self.labels)) for option in self.options])

    def with_text(self, *texts: str) -> frozenset[str]:
        """The labels of the options with one of these texts: exactly, else undressed, else however written."""
        found = (
            labels.get(form(text))
            for labels, form in zip(self.texts, FORMS, strict=True)
            for text in texts
            if 0 < len(text) <= self.max_text_chars
        )
        return next(filter(None, found), frozenset())

    def are_same(self, labels: frozenset[str]) -> bool:
        """Whether the options of these labels say the very same."""
        return any(labels <= same for same in self.texts[0].values())


def judge_choice(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """Whether a reply settles on the gold option.

    Args:
        answer: the reply without its thought.
        gold: a label; or, where options are given and it is no label, an option's text.
        metadata: "options": the options' texts (optional); "labels": what they are called (optional: A, B, ... for as
            many as there are options; without options A to J).
        settings: plays no part.

    Raises:
        ValueError: the labels or options are malformed, or gold is none of them.
    """
    choices = _read_choices(metadata)
    wanted = _gold_labels(gold, choices)
    reading = _find(answer, choices)
    if reading is None:
        return Verdict(VerdictStatus.UNPARSED, None, "The reply chooses none of the options.")
    found = _short(reading.text)
    if not reading.labels:
        return Verdict(
            VerdictStatus.WRONG,
            found,
            f"The answer {found} is none of the options {choices.labels[0]} to {choices.labels[-1]}.",
        )
    if len(reading.labels) > 1 and not choices.are_same(reading.labels):
        both = " and ".join(sorted(reading.labels, key=choices.labels.index)[:3])
        return Verdict(VerdictStatus.WRONG, found, f"The reply names {both} and chooses no single one.")
    label = min(reading.labels & wanted or reading.labels)
    if label in wanted:
        return Verdict(VerdictStatus.CORRECT, label, f"Option {label} is correct.")
    return Verdict(VerdictStatus.WRONG, label, f"Option {label} is wrong: the gold option is {_short(gold)}.")


def _read_choices(metadata: Mapping[str, object]) -> _Choices:
    options = _texts(metadata, "options")
    labels = _texts(metadata, "labels") or (tuple(_ALPHABET[: len(options)]) if options else _LETTERS)
    if options and len(options) != len(labels):
        raise DataError(f"metadata: {len(options)} options but {len(labels)} labels; give each option its label")
    return _choices(labels, options)


@lru_cache(maxsize=256)
def _choices(labels: tuple[str, ...], options: tuple[str, ...]) -> _Choices:
    """
    Raises:
        ValueError: the labels are not distinct.
    """
    if len(set(labels)) < len(labels) or not all(re.fullmatch(r"\w{1,4}", label) for label in labels):
        raise DataError(f"metadata 'labels': {labels!r:.80}: must be different, of one to four letters or digits each")
    max_text_chars = 2 * max(map(len, options), default=0) + 200
    max_chars = max(_MAX_STATEMENT, max_text_chars)
    return _Choices(labels, options, words.label_patterns(labels), max_text_chars, max_chars)


def _index(labels: tuple[str, ...], texts: list[str]) -> dict[str, frozenset[str]]:
    return {
        text: frozenset(label for label, other in zip(labels, texts, strict=False) if other == text) for text in texts
    }


def _texts(metadata: Mapping[str, object], field: str) -> tuple[str, ...]:
    value = metadata.get(field)
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(text, str) for text in value):
        raise DataError(f"metadata {field!r}: must be a list of texts, not {value!r:.80}")
    if not 1 <= len(value) <= len(_ALPHABET):
        raise DataError(f"metadata {field!r}: must hold 1 to {len(_ALPHABET)} texts, not {len(value)}")
    return tuple(value)


def _gold_labels(gold: str, choices: _Choices) -> frozenset[str]:
    """The right label; where gold is a text that several options share, all of theirs."""
    pure = choices.patterns.pure.fullmatch(flatten(gold, choices.labels))
    found = frozenset([label_in(pure)]) if pure else choices.with_text(gold)
    if not found or (len(found) > 1 and not choices.are_same(found)):
        known = ", ".join(choices.labels)
        raise DataError(f"gold {_short(gold)!r}: must be one of the labels {known}, or the text of one option")
    return found


def _find(answer: str, choices: _Choices) -> _Reading | None:
    """What the reply settles on at its end; None where it does not."""
    answer = clean(answer)
    spans = box_spans(answer)
    opened = answer.rfind("\\boxed")
    if opened > (spans[-1][1] if spans else -1) and re.match(r"\\boxed\s{0,9}\{", answer[opened : opened + 20]):
        return None  # the reply was cut in its last box
    filled = [span for span in spans if answer[slice(*span)].strip()]
    tail = answer[-_MAX_ANNOUNCED:]
    if not filled:
        return _below_heading(tail, choices) or _announced(tail, choices) or _alone(answer[-_MAX_ALONE:], choices)
    boxed = _in_boxes(answer, filled, choices)
    rest = answer[filled[-1][1] :][-_MAX_ANNOUNCED:]
    goes_on = re.search(r"\w", rest) is not None
    final = _announced(rest, choices, is_judged=False, is_final=True) if goes_on else None
    later = final or (_announced(rest, choices, is_judged=False) if goes_on else None)
    is_other = boxed.labels and later and not final and later.labels != boxed.labels
    if is_other and not words.TAKEN_BACK.search(rest, 0, _MAX_TAKEN_BACK):
        return None
    if boxed.labels or later:
        return later or boxed
    stated = _announced(tail, choices)  # a box with something else than an option is a step
    return stated if stated and stated.labels else boxed


def _below_heading(answer: str, choices: _Choices) -> _Reading | None:
    below = section(answer)
    if below is None or any(start > below.end for _, start in announcements(answer, words.CUES, most=1)):
        return None
    first = below.text.partition("\n")[0]
    return _alone(below.text, choices) or (_read(first, choices, is_prose=True) if first == below.text else None)


def _in_boxes(answer: str, spans: list[tuple[int, int]], choices: _Choices) -> _Reading:
    """The last box, with those that only "or" and the like stand between, and with a label joined to it."""
    first, end = spans[-1]
    labels = _box_labels(answer[first:end], choices)
    for before in reversed(spans[-_NUM_CUES:-1]):
        if first - before[1] > _MAX_GAP or not words.BOX_JOIN.fullmatch(answer, before[1], first):
            break
        labels, first = labels | _box_labels(answer[slice(*before)], choices), before[0]
    further = choices.patterns.joined.match(flatten(answer[end + 1 : end + _MAX_GAP], choices.labels))
    if further:
        labels |= {label_in(further)}
    return _Reading(labels, answer[first:end].strip())


def _box_labels(content: str, choices: _Choices) -> frozenset[str]:
    if len(content) > choices.max_chars or re.fullmatch(r"\w{1,4}'", flatten(content, choices.labels)):
        return frozenset()  # C' is no C
    reading = _read(content, choices)
    return reading.labels if reading else frozenset()


def _announced(answer: str, choices: _Choices, *, is_judged: bool = True, is_final: bool = False) -> _Reading | None:
    """What the last phrase that announces an answer says; one that names no option leaves the word to another.

    Args:
        is_judged: "C is correct" is read too.
        is_final: only a phrase that calls its answer the final one is read.
    """
    found: list[tuple[int, int, re.Match[str] | None]]
    found = [(*cue, None) for cue in announcements(answer, words.CUES, _NUM_CUES)]
    if is_judged and words.IS_CHOSEN.search(answer):
        for pattern in (choices.patterns.judged, words.PREDICATE):
            found += [(*cue.span(), cue) for cue in deque(pattern.finditer(answer), maxlen=_NUM_CUES)]
    clauses = [(*cue, CLAUSE_END.split(answer[max(0, cue[0] - _MAX_CLAUSE) : cue[0]])[-1]) for cue in found]
    for start, end, judged, clause in sorted(
        clauses, key=lambda item: (not words.OF_STATEMENT.search(item[3]), item[0]), reverse=True
    ):
        if words.is_supposed(clause, answer[start:end], CLAUSE_END.split(answer[end : end + _MAX_GAP])[0]):
            continue
        if is_final and not words.FINAL.search(answer, max(0, start - len("the final ")), end):
            continue
        if judged:
            reading = (_subject if judged.re is words.PREDICATE else _judged)(answer, judged, clause, choices)
        else:
            line = answer[end : end + choices.max_chars].partition("\n")[0]
            if words.TAKEN_BACK.search(answer, end, end + _MAX_TAKEN_BACK):
                return None
            reading = _with_subject(_read(line.partition("</")[0], choices, is_prose=True), clause, choices)
            if reading is None and words.DENIED.match(line):
                return None  # the earlier statement is taken back
        if reading:
            return None if words.DOUBTED.search(clause.replace(", which", " which").rpartition(",")[2]) else reading
    return None


def _with_subject(reading: _Reading | None, clause: str, choices: _Choices) -> _Reading | None:
    """What a cue says, with the option whose text it is about where that is another: "Madrid, which is option C"."""
    subject, comma, relative = clause.rpartition(", ")
    if reading is None or not comma or relative.strip() != "which":
        return reading
    key = _key(flatten(subject, choices.labels))
    named = {label for text, labels in choices.flat_texts.items() if text and key.endswith(text) for label in labels}
    return reading if reading.labels & named else _Reading(reading.labels | named, reading.text)


def _judged(answer: str, found: re.Match[str], clause: str, choices: _Choices) -> _Reading | None:
    if words.RETRACTED.match(answer, found.end()):
        return None
    reading = _read(found.group().partition(" ")[0], choices)
    if re.search("[가-힣]", found.group()):
        clause = re.sub(r",\s*$", " 와 ", clause)  # C, D가 옳다
    before = choices.patterns.joined_before.search(flatten(clause, choices.labels) + " ")
    if reading is None or before is None:
        return reading
    return _Reading(reading.labels | {label_in(before)}, found.group())


def _subject(answer: str, found: re.Match[str], clause: str, choices: _Choices) -> _Reading | None:
    """The option whose whole text, with or without its label, stands before "is the answer" in its line."""
    line = answer[max(0, found.start() - choices.max_chars) : found.start()].rpartition("\n")[2].lstrip(" *_\"“'")
    starts = {0, len(line) - len(clause), *(filler.end() for filler in [words.FILLERS.match(line)] if filler)}
    readings = (_alone_in_line(line[start:], choices, is_reply=True) for start in starts if start >= 0)
    return None if words.RETRACTED.match(answer, found.end()) else next(filter(None, readings), None)


def _alone(answer: str, choices: _Choices) -> _Reading | None:
    """A label, with or without its option, as a reply or as its first or last line; a list of several is no answer."""
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    readings = [_alone_in_line(line, choices, is_reply=len(lines) == 1) for line in lines]
    if len({reading.labels for reading in readings if reading}) != 1:
        return None
    return readings[-1] or readings[0]


def _alone_in_line(line: str, choices: _Choices, *, is_reply: bool) -> _Reading | None:
    if len(line) > choices.max_chars:
        return None
    flat = flatten(line, choices.labels)
    pure = choices.patterns.pure.fullmatch(flat)
    if pure:
        return _Reading(frozenset([label_in(pure)]), line)
    labels = (choices.with_text(line, trim(line)) or _small(flat, choices)) if is_reply else frozenset[str]()
    found = None if labels else choices.patterns.leading.match(flat)
    if found:
        label, rest = label_in(found), flat[found.end() :]
        goes_on = is_reply and re.match(r"[.):]\s(?:it|the|this|that|because|since|as)\s", rest, re.IGNORECASE)
        if goes_on or label in choices.flat_texts.get(_key(rest), ()):
            labels = frozenset([label])
    if is_reply and len(hedge := _leading_labels(flat, choices)) > 1:
        labels = hedge
    return _Reading(labels, line) if labels else None


def _read(statement: str, choices: _Choices, *, is_prose: bool = False) -> _Reading | None:
    """The labels that a box, or the text behind a cue, names; None where it names none.

    Args:
        is_prose: the statement may go on behind the answer, and a letter that is no label is an answer too.
    """
    flat = choices.patterns.denied.sub("", flatten(statement, choices.labels), count=1)
    pure = choices.patterns.pure.fullmatch(flat)
    if pure:
        return _Reading(frozenset([label_in(pure)]), statement)
    text = statement.strip()
    texts = [text, _OUTER_FONT.sub(r"\1", text)]
    if is_prose:
        texts += [text.removesuffix("."), text.rstrip(".。 "), trim(text).strip(_QUOTES)]
        texts += [texts[-1].removesuffix("다")] if texts[-1].endswith("다") else []  # 수소다
    sentence = re.split(r"[.!。]\s", text)[0]
    if is_prose and len(sentence) > 2:  # a shorter one may be a label, with its option behind it
        texts.append(sentence)
    labels = choices.with_text(*texts)
    labels = labels or _small(trim(flat), choices) or _named_with_text(flat, choices) or _leading_labels(flat, choices)
    if not labels and is_prose and (number := re.fullmatch(r"\W*(\d)(?:\W*|[.)]\s(.+))", trim(flat))):
        named = choices.flat_texts.get(_key(number[2]), frozenset[str]()) if number[2] else frozenset[str]()
        labels = _nth(int(number[1]), choices) | named if named or not number[2] else labels
    outside = re.match(r"[(\[]?[A-Z](?:[)\]]?[\s.]*$|[)\]])", flat) if is_prose else None
    return _Reading(labels, statement) if labels or outside else None


def _small(flat: str, choices: _Choices) -> frozenset[str]:
    """The label of a single small letter."""
    upper = choices.patterns.pure.fullmatch(flat.upper()) if re.fullmatch(r"\W*[a-z]\W*", flat) else None
    return frozenset([label_in(upper)]) if upper else frozenset()


def _nth(number: int, choices: _Choices) -> frozenset[str]:
    """The label that a digit counts, where labels are letters and no option holds a number."""
    is_count = (
        choices.options and choices.labels[0].isalpha() and not any(map(re.compile(r"\d").search, choices.options))
    )
    return frozenset(choices.labels[number - 1 : number]) if is_count and number else frozenset()


def _named_with_text(flat: str, choices: _Choices) -> frozenset[str]:
    """A label with an option's text behind it, or before it in brackets; both labels where they name two."""
    found = choices.patterns.named.match(flat)
    behind = words.BEHIND_TEXT.fullmatch(flat[: choices.max_chars])
    if behind and (last := choices.patterns.pure.fullmatch(behind[2])) and _key(behind[1]) in choices.flat_texts:
        return choices.flat_texts[_key(behind[1])] | {label_in(last)}
    if not found:
        return frozenset()
    rest = flat[found.end() :]
    keys = (_key(text) for text in (rest, re.split(r"[.,;]\s|[)\]]", rest.lstrip(" (["))[0]))
    named = next((choices.flat_texts[key] for key in keys if key and key in choices.flat_texts), frozenset[str]())
    label = frozenset([label_in(found)])
    return label if label <= named else label | named if named else named


def _leading_labels(flat: str, choices: _Choices) -> frozenset[str]:
    """The label at the start of a statement, with any that it is joined to."""
    fillers = words.FILLERS.match(flat)
    for start in (0, fillers.end() if fillers else 0):
        found = choices.patterns.leading.match(flat, start)
        if found and not words.RETRACTED.match(flat, found.end()):
            return _with_joined(label_in(found), flat[found.end() :], choices)
    return frozenset()


def _with_joined(label: str, rest: str, choices: _Choices) -> frozenset[str]:
    """A label, with one that "or" or the like joins to it, and with that of the option whose text follows it."""
    named = choices.flat_texts.get(_key(rest)) if _key(rest) else None
    if named:
        return frozenset([label]) | (frozenset() if label in named else named)
    if choices.options:
        option = flatten(choices.options[choices.labels.index(label)], choices.labels)
        text = words.BEHIND_LABEL.sub("", rest, count=1)
        rest = text.removeprefix(option) if option and text.startswith(option) else rest
    further = choices.patterns.joined.match(rest)
    return frozenset([label, label_in(further)]) if further else frozenset([label])


def _key(flat: str) -> str:
    """What stands behind a label, to be looked up in `flat_texts`."""
    return "".join(trim(words.BEHIND_LABEL.sub("", flat, count=1)).casefold().rstrip(". )]'").split())


def _short(text: str, limit: int = 40) -> str:
    text = " ".join(text[: 10 * limit].split())
    return text if len(text) <= limit else text[: limit - 1] + "…"
