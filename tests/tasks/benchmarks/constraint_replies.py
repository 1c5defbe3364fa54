"""Replies that follow IFEval's instructions, put together from parts; sense is not among the instructions."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from open_exaone.base.records import Problem
from open_exaone.verify.constraints.judge import follow

FILLERS = (  # for words, and for the detector of languages; in digits no word is forbidden and no letter too many
    "we hope that this will help you and your friends to see how the work is done at home",
    "she has a big red house and he has an old dog in his garden",
    "you know it now so go on and look for more of it",
    "when people live and work together they do more than one alone",
    "7 8 9",
    "questo è il libro che mi piace di più e non ne ho un altro",
    "우리는 오늘 집에서 함께 저녁을 먹고 이야기를 나눈다",
    "हम आज घर पर साथ में खाना खाते हैं और बातें करते हैं " * 20,
)

CONTRADICTORY = {  # keys of the rows that nothing can follow: to repeat a prompt that breaks the other instruction
    1627,  # its commas
    3718,
    3369,  # a word that may occur once occurs twice
    3371,  # forbidden words
    374,
}


@dataclass
class Plan:
    """What the instructions of one row ask for."""

    lead: list[str] = field(default_factory=list)  # in this order, before the filler
    tail: list[str] = field(default_factory=list)
    end: str = ""
    num_words: int = 0
    num_sentences: int = 0
    num_parts: int = 0  # between ***
    num_paragraphs: int = 0  # between blank lines
    first_words: dict[int, str] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)


def follow_all(problem: Problem) -> str:
    """A reply that follows every instruction.

    Raises:
        ValueError: none of the ways tried does.
    """
    ids, tables = problem.metadata["instruction_id_list"], problem.metadata["kwargs"]
    assert isinstance(ids, Sequence) and isinstance(tables, Sequence)
    plan = Plan()
    for name, table in zip(ids, tables, strict=True):
        note(plan, name, table or {})
    for reply in ways(plan):
        if all(follow(reply, problem.metadata)):
            return reply
    raise ValueError(f"{problem.id}: no reply found that follows {', '.join(ids)}")


def note(plan: Plan, name: str, table: Mapping[str, Any]) -> None:
    """Adds one instruction to the plan."""
    plan.flags.add(name.partition(":")[2])
    at_least = "at least" in [table.get(key) for key in ("relation", "let_relation", "capital_relation")]
    match name.partition(":")[2]:
        case "capital_word_frequency" if at_least:
            plan.tail.append(" ".join(["BIG"] * table["capital_frequency"]))
        case "repeat_prompt":
            plan.lead.insert(0, table["prompt_to_repeat"].strip())
        case "title":
            plan.lead.append("<<1>>")
        case "number_placeholders":
            plan.tail.append("[1] " * table["num_placeholders"])
        case "constrained_response":
            plan.lead.append("My answer is yes.")
        case "multiple_sections":
            word = table["section_spliter"]
            plan.lead += [f"{word} {number + 1}" for number in range(table["num_sections"])]
        case "number_bullet_lists":
            plan.tail += ["* so"] * table["num_bullets"]
        case "number_highlighted_sections":
            plan.tail.append(": " + " ".join(["*1*"] * table["num_highlights"]))
        case "existence":
            plan.tail.append(" ".join(table["keywords"]))
        case "frequency" if at_least:
            plan.tail.append(" ".join([table["keyword"]] * table["frequency"]))
        case "letter_frequency" if at_least:
            plan.tail.append(table["letter"] * table["let_frequency"])
        case "nth_paragraph_first_word":
            plan.num_paragraphs = table["num_paragraphs"]
            plan.first_words[table["nth_paragraph"]] = table["first_word"]
        case "number_paragraphs":
            plan.num_parts = table["num_paragraphs"]
        case "number_sentences" if at_least:
            plan.num_sentences = max(plan.num_sentences, table["num_sentences"])
        case "number_words" if at_least:
            plan.num_words = max(plan.num_words, table["num_words"])
        case "postscript":
            plan.tail.append(f"{table['postscript_marker']} so")
        case "end_checker":
            plan.end = table["end_phrase"]


def ways(plan: Plan) -> Iterator[str]:
    """The same parts with other fillers, with and without what keeps sentences apart."""
    for filler, has_base, joint in product(FILLERS, (True, False), ("\n", " ")):
        yield dress(plan, laid_out(plan, filler, has_base, joint))


def laid_out(plan: Plan, filler: str, has_base: bool, joint: str) -> str:
    words = filler.split()
    body = [filler] if has_base else []
    body += [f"{words[0]} {words[1]}."] * plan.num_sentences
    if plan.num_words:
        body.append(" ".join((words * plan.num_words)[: plan.num_words]))
    if plan.num_paragraphs:
        first = [plan.first_words.get(number + 1, words[0]) for number in range(plan.num_paragraphs)]
        texts = [f"{word} {filler}" if has_base else word for word in first]
        inner = joint.join([*plan.lead, texts[0]]) if 1 not in plan.first_words else joint.join([texts[0], *plan.lead])
        if plan.num_paragraphs == 1:
            return joint.join([inner, *body, *plan.tail, plan.end])
        return "\n\n".join([inner, *texts[1:-1], joint.join([texts[-1], *body, *plan.tail, plan.end])])
    if plan.num_parts:
        texts = [joint.join([*plan.lead, *body]) or words[0], *[words[0]] * (plan.num_parts - 1)]
        texts[-1] = joint.join([texts[-1], *plan.tail, plan.end])
        return "\n***\n".join(texts)
    if "two_responses" in plan.flags:
        return joint.join([*plan.lead, *body, words[0], "******", words[1], *plan.tail, plan.end])
    return joint.join([*plan.lead, *body, *plan.tail, plan.end])


def dress(plan: Plan, text: str) -> str:
    """What holds for the reply as a whole."""
    if "english_lowercase" in plan.flags:
        text = text.lower()
    if "english_capital" in plan.flags:
        text = text.upper()
    if "no_comma" in plan.flags:
        text = text.replace(",", "")
    text = text.strip()
    if "json_format" in plan.flags:
        return '"' + text.replace("\\", " ").replace('"', " ").replace("\n", " ") + '"'
    return f'"{text}"' if "quotation" in plan.flags else text
