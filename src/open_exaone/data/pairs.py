"""Rows with a reply that is wanted and one that is not."""

from typing import Any

from open_exaone.data.columns import Columns, is_empty
from open_exaone.data.prompts import behind_system, checked, read_prompt, read_reply, tools_of
from open_exaone.data.rows import BadRow, Pair, Turn
from open_exaone.data.turns import check_order, read_turns


def read_pair(columns: Columns) -> Pair:
    """A prompt with a reply that is wanted and one that is not.

    Raises:
        BadRow: a reply or the prompt is wrong, or the replies are the same.
    """
    prompt, chosen, rejected = _sides(columns)
    for field, reply in (("chosen", chosen), ("rejected", rejected)):
        name = columns.column_name(field)
        check_order((*prompt, *reply), name, ends_in_reply=True)
        checked((*prompt, *reply), name)
        if any("train" in turn for turn in reply):
            raise BadRow(name, "not read", "has a turn that is left out of the loss; of a pair all is learned")
    if chosen == rejected:
        raise BadRow(columns.column_name("rejected"), "same replies", "is the same text as chosen")
    return Pair(prompt, chosen, rejected, tools_of(columns))


def _sides(columns: Columns) -> tuple[tuple[Turn, ...], tuple[Turn, ...], tuple[Turn, ...]]:
    """A pair's prompt, and its two replies."""
    values = {field: columns.get(field) for field in ("chosen", "rejected")}
    if (ranked := columns.get("completions")) is not None and values == {"chosen": None, "rejected": None}:
        values = _ranked(ranked, columns.column_name("completions"))
    if values["chosen"] is None:  # ms-swift: the conversation ends in the chosen reply
        turns = read_turns(columns.get("messages"), columns.column_name("messages"))
        rejected = read_reply(values["rejected"], columns, "rejected")
        whole = rejected[0]["role"] != "assistant"
        _check_said(columns, turns)
        return _split(behind_system(turns, columns), rejected if whole else (*turns[:-1], *rejected), columns)
    chosen, rejected = (read_reply(values[field], columns, field) for field in ("chosen", "rejected"))
    if chosen[0]["role"] == rejected[0]["role"] == "assistant":
        return read_prompt(columns), chosen, rejected
    prompt, chosen, rejected = _split(behind_system(chosen, columns), rejected, columns)
    _check_said(columns, prompt)
    return prompt, chosen, rejected


def _split(
    chosen: tuple[Turn, ...], rejected: tuple[Turn, ...], columns: Columns
) -> tuple[tuple[Turn, ...], tuple[Turn, ...], tuple[Turn, ...]]:
    """Two whole conversations as the prompt that they share, and what each adds; the last turn of each is its own."""
    if columns.get("system") is not None and rejected[0]["role"] != "system":
        rejected = behind_system(rejected, columns)
    shared = 0
    for one, other in zip(chosen[:-1], rejected[:-1], strict=False):
        if one != other:
            break
        shared += 1
    if shared == 0 or any(side[shared]["role"] != "assistant" for side in (chosen, rejected)):
        raise BadRow(columns.column_name("chosen"), "wrong role", "and rejected begin with different prompts")
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _check_said(columns: Columns, turns: tuple[Turn, ...]) -> None:
    """Whole conversations stand beside a prompt in many sets; it must be theirs, as they alone are learned."""
    for field in ("history", "input"):
        if not is_empty(columns.get(field)):
            why = "is not read beside whole conversations, which hold their own prompt"
            raise BadRow(columns.column_name(field), "not read", why, "list it in the source's `ignore`")
    said = [turn["content"].strip() for turn in turns if isinstance(turn["content"], str)]
    for field in ("prompt", "question"):
        value, name = columns.get(field), columns.column_name(field)
        turns_of = [] if not value or isinstance(value, str) else read_turns(value, name)
        asked = [value, *(turn["content"] for turn in turns_of)]
        if any(isinstance(text, str) and text.strip() not in said for text in asked):
            why = "differs from the conversations in chosen and rejected, which hold their own prompt"
            raise BadRow(name, "two prompts", why, "list it in the source's `ignore`")


def _ranked(value: Any, name: str) -> dict[str, Any]:
    """The two completions of a row of NeMo-RL's, the better one with the lower rank."""
    is_pair = isinstance(value, list) and len(value) == 2 and all(isinstance(item, dict) for item in value)
    ranks = [item.get("rank") for item in value] if is_pair else []
    if not all(isinstance(rank, int) for rank in ranks) or len(set(ranks)) != 2:
        raise BadRow(name, "wrong type", 'must be two {"rank", "completion"} of different ranks', "make pairs of them")
    ordered = sorted(value, key=lambda item: int(item["rank"]))
    return {field: item.get("completion") for field, item in zip(("chosen", "rejected"), ordered, strict=True)}
