"""Which responses become SFT rows: every reason, their order, diversity, and that rows are read as written."""

import itertools
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from made_replies import made_replies
from open_exaone.base.records import (
    Generation,
    Problem,
    Reply,
    Sample,
    StopReason,
    ToolCall,
    Verdict,
    VerdictStatus,
)
from open_exaone.base.tables import Row
from open_exaone.data.config import SourceConfig
from open_exaone.data.row_formats import RowParser
from open_exaone.pipeline.responses import BuildConfig, Reason, row_of, select
from open_exaone.verify.repetition import distance, is_degenerate, shingles

PROBLEM = Problem("sums/1", "sums", "en", "How much is 3 + 4?", "7", "math")
THOUGHT = "I have three of them, and then there are four more, so that I count from three to seven."
ANSWER = "The answer is \\boxed{7}, since three and four make seven."
LOOP = "Wait, let me check that again, since it is not what I want. " * 30
CORRECT = Verdict(VerdictStatus.CORRECT, "7", "It is 7.")


def sample(
    index: int = 0, thought: str = THOUGHT, answer: str = ANSWER, verdict: Verdict = CORRECT, **others
) -> Sample:
    reply = Reply(thought, answer, others.pop("tool_calls", ()), others.pop("finished", True))
    generation = replace(Generation(reply, StopReason.END, 10, 40, 20), **others)
    return Sample("key", "reasoning", PROBLEM.id, index, generation, verdict)


def of(status: str) -> Verdict:
    return Verdict(VerdictStatus(status), None, "why")


CALL = {"tool_calls": (ToolCall('{"name": "add"}', "add"),)}
FAULTS = {  # a reason -> what makes a response of that kind
    Reason.NO_REPLY: {"stop": StopReason.ERROR},
    Reason.NOT_JUDGED: {"verdict": of("error")},
    Reason.TRUNCATED: {"stop": StopReason.LENGTH},
    Reason.WRONG: {"verdict": of("wrong")},
    Reason.TOOL_CALL: CALL,
    Reason.NO_THOUGHT: {"thought": " \n"},
    Reason.NO_ANSWER: {"answer": "\n"},
    Reason.TOO_LONG: {"num_tokens": 1001},
    Reason.CHAT_TAG: {"answer": ANSWER + "</think>"},
    Reason.DEGENERATE: {"thought": THOUGHT + LOOP},
    Reason.LANGUAGE: {"thought": "셋에 넷을 더하면 일곱이 됩니다. 그래서 답은 일곱입니다."},
    Reason.UNREADABLE: {"answer": ANSWER + "\ud800"},
}


def reasons(samples, thinking: bool = True, **config) -> list[Reason | None]:
    given_ = BuildConfig(**{"max_tokens": 1000, "keep": 10, "min_distance": 0, **config})
    return [choice.reason for choice in select(PROBLEM, thinking, samples, given_, "teacher")]


@pytest.mark.parametrize(("reason", "what"), FAULTS.items())
def test_each_fault_drops_a_response_and_no_other(reason, what):
    assert reasons([sample(0), sample(1, **what), sample(2)]) == [None, reason, None]


@pytest.mark.parametrize(
    ("reason", "what"),
    [
        ("unparsed", {"verdict": of("unparsed")}),
        ("timeout", {"verdict": of("timeout")}),
        ("no_reply", {"stop": StopReason.CANCELLED}),
        ("truncated", {"finished": False}),
        ("truncated", {"verdict": of("truncated")}),
        ("degenerate", {"answer": ANSWER + LOOP}),
        ("language", {"answer": ANSWER + " 정답은 일곱입니다. 셋에 넷을 더하면 일곱이 되기 때문입니다."}),
        ("chat_tag", {"thought": THOUGHT + "[|endofturn|]"}),
    ],
)
def test_every_form_of_a_fault_is_found(reason, what):
    assert reasons([sample(**what)]) == [reason]


def test_non_reasoning_mode_takes_no_thoughts():
    assert reasons([sample(), sample(1, thought="")], thinking=False) == ["unwanted_thought", None]


@given(st.sets(st.sampled_from(sorted(set(FAULTS) - {Reason.NO_ANSWER, Reason.NO_THOUGHT})), min_size=2))
def test_a_response_counts_under_its_first_reason(faults):
    made = {}
    for reason in sorted(faults, key=list(Reason).index, reverse=True):
        for name, value in FAULTS[reason].items():  # texts are joined, so that all faults are there
            both = name in ("thought", "answer") and name in made
            made[name] = f"{made[name]}\n{value}" if both else value
    assert reasons([sample(**made)]) == [min(faults, key=list(Reason).index)]


def test_problems_in_other_languages_are_not_judged_by_theirs():
    german = replace(PROBLEM, language="de")
    [choice] = select(german, True, [sample(thought="Das ist die Summe von drei und vier.")], BuildConfig(), "t")
    assert choice.reason is None


WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def in_order(order) -> str:
    return " ".join(f"the {WORDS[place]} is good, and" for place in order)


def spread(samples, **config):
    """The responses that are kept, and the smallest distance between two of them."""
    kept = [one for one, reason in zip(samples, reasons(samples, **config), strict=True) if reason is None]
    sets = [shingles(f"{one.generation.reply.thought}\n{one.generation.reply.answer}") for one in kept]
    return kept, min((distance(*pair) for pair in itertools.combinations(sets, 2)), default=1.0)


@given(
    st.lists(st.permutations(range(5)), min_size=1, max_size=8),
    st.integers(1, 4),
    st.sampled_from([0.0, 0.3, 0.6, 1.0]),
)
def test_what_is_kept_is_apart_and_nothing_apart_is_lost(orders, keep, min_distance):
    samples = [sample(index, thought=in_order(order)) for index, order in enumerate(orders)]
    kept, apart = spread(samples, keep=keep, min_distance=min_distance)
    found = reasons(samples, keep=keep, min_distance=min_distance)
    assert found[0] is None and 1 <= len(kept) <= keep and apart >= min_distance
    assert found == reasons(samples, keep=keep, min_distance=min_distance)
    kept_sets = [shingles(f"{one.generation.reply.thought}\n{ANSWER}") for one in kept]
    for one, reason in zip(samples, found, strict=True):
        own = shingles(f"{one.generation.reply.thought}\n{ANSWER}")
        nearest = min(distance(own, other) for other in kept_sets)
        if reason is Reason.TOO_ALIKE:
            assert nearest < min_distance
        if reason is Reason.NOT_NEEDED:
            assert nearest >= min_distance and len(kept) == keep


def test_the_farthest_response_is_taken_next():
    near, far = in_order([0, 1, 2, 3, 5]), in_order([9, 8, 7, 6, 5])
    samples = [sample(0, thought=in_order(range(5))), sample(1, thought=near), sample(2, thought=far)]
    assert reasons(samples, keep=2, min_distance=0.05) == [None, "not_needed", None]
    assert reasons(samples, keep=3, min_distance=0.6) == [None, "too_alike", None]
    assert reasons([samples[0], replace(samples[0], index=1)], keep=2, min_distance=0.01) == [None, "too_alike"]


def test_rows_that_are_kept_are_read_as_they_are_written():
    parser = RowParser("messages", SourceConfig(path="sft.jsonl"))
    replies = list(itertools.chain(made_replies(600, seed=3), ["", "  a\n\n", "<think>b</think>c", "\u2028x"]))
    kept = 0
    for index, (thought, answer) in enumerate(zip(replies, reversed(replies), strict=True)):
        one = sample(index, thought=thought, answer=answer)
        for thinking in (True, False):
            if reasons([one], thinking) != [None]:
                continue
            row = json.loads(json.dumps(row_of(PROBLEM, thinking, one, "teacher")))
            example, _ = parser.parse(Row("sft.jsonl", 1, row))
            [question, reply] = example.content.messages
            assert question["content"] == PROBLEM.question and example.id == f"sums/1/{row['mode']}/{index}"
            assert reply["content"] == answer.strip() and reply.get("reasoning_content", "") == thought.strip()
            assert example.has_thought == thinking
            kept += 1
    assert kept > 100


def test_loops_are_found_and_worked_solutions_are_not():
    long = " ".join(
        f"Step {n}: from {n} and {n + 7} follows {2 * n + 7}, so the next number is {n * n}." for n in range(400)
    )
    assert not is_degenerate(long) and not is_degenerate("") and not is_degenerate("7 " * 30)
    for loop in (
        LOOP,
        "so the answer is seven. " * 40,
        "ㅋ" * 5000,
        "!" * 5000,
        "\n" * 5000,
        "그래서 답은 일곱이다. " * 40,
    ):
        assert is_degenerate(loop) and is_degenerate(long + loop) and is_degenerate(loop + long)
    paragraph = " ".join(f"The {n}th of them has {n * 3} sides and {n * 5} corners." for n in range(90))
    assert not is_degenerate(paragraph) and is_degenerate(paragraph * 4)
