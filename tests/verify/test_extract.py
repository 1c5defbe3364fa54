"""The last box of a reply, whatever the reply."""

import time
from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from open_exaone.verify import choice_words, extract
from open_exaone.verify.extract import Cues, boxes, clean, find_after_cue, last_boxed


def processor_seconds(work: Callable[[], object]) -> float:
    """What the quickest of three attempts takes: a slow moment of the machine may fall into one of them."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        (r"The total is \boxed{46}.", "46"),
        (r"답은 \boxed{46}입니다.", "46"),
        (r"\boxed{1} or \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\}}", r"\}"),
        (r"\boxed{\boxed{5}}", "5"),
        ("\\boxed {\n 7 }", "7"),
        (r"\boxed{}", ""),
        ("", None),
        ("46", None),
        (r"boxed{46}", None),
        (r"\boxed 46", None),
        (r"\boxed{46", None),
        (r"\boxed{1} and then \boxed{2", None),
        (r"\boxed{1\}", None),
        ("\\boxed{1\\", None),
    ],
)
def test_table(text: str, box: str | None) -> None:
    assert last_boxed(text) == box


@given(before=st.text(), content=st.text(alphabet=st.characters(exclude_characters="{}\\")))
def test_what_was_boxed_last_is_found(before: str, content: str) -> None:
    assert last_boxed(f"{before} \\boxed{{{content}}}.") == content.strip()


@given(st.text(alphabet="\\boxed{} "))
def test_no_text_makes_it_raise(text: str) -> None:
    last_boxed(text)


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" + "{" * 1_000_000,
        "\\boxed{" + "{" * 500_000 + "}" * 500_000,
        "\\boxed{" * 150_000,
        "\\boxed{1}" * 110_000,
        "\\boxed" + " " * 1_000_000,
        "\\boxed{" + "\\" * 1_000_000,
        "\\boxed " * 140_000,
        "}" * 1_000_000,
    ],
    ids=["open", "deep", "unclosed", "many", "spaces", "escapes", "names", "closed"],
)
def test_a_million_hostile_characters_cost_linear_time(text: str) -> None:
    assert processor_seconds(lambda: last_boxed(text)) < 20  # quadratic would take minutes


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (r"\boxed{1} or \boxed{2}", ["1", "2"]),
        (r"\boxed{840} \boxed{840}", ["840", "840"]),
        (r"\boxed{\boxed{5}}", ["5"]),
        (r"\boxed{\boxed{2}, \boxed{3}}", ["2", "3"]),
        (r"$\boxed 7$ and \fbox{8}", ["7", "8"]),
        (r"\boxed{\{1, 2\}}", [r"\{1, 2\}"]),
        (r"\\boxed{004}", ["004"]),
        (r"\boxed{1} \boxed{2", ["1"]),
        (r"\boxed{}", [""]),
        (r"\boxedx{3}", []),
        ("}" * 9 + r"\boxed{3}", ["3"]),
    ],
)
def test_every_closed_box_is_found_in_order(text: str, found: list[str]) -> None:
    assert boxes(text) == found


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("The answer is 5.", "5"),
        ("The answer is 1.5, I think.", "1.5, I think"),
        ("Answer: 4. No: the final answer is $28 \\%$. I hope it is correct.", "$28 \\%$"),
        ("**Answer:** B", "B"),
        ("**Final answer: B**", "B"),
        ("The answer is:\n\n\\[ 5 \\]\nas wanted", "\\[ 5 \\]"),
        ("The correct option is (C)!", "(C)"),
        ("정답은 ③번이다", "③번"),
        ("답은 5개입니다.", "5개"),
        ("**정답: 3**", "3"),
        ("따라서 정답은 $-3$이다.", "$-3$"),
        ("La respuesta final es **12**.", "12"),
        ("<answer>42</answer>", "42"),
        ("答えは4です。", "4"),
        ("So the answer is", None),
        ("The answerer is 5", None),
        ("", None),
    ],
)
def test_what_a_cue_announces(text: str, answer: str | None) -> None:
    found = find_after_cue(text)
    assert (found.text if found else None) == answer


@pytest.mark.parametrize(
    "text",
    ["\\" * 1_000_000, "answer is " * 100_000, "answer of " * 100_000, "답은 " * 300_000, "answer:" + "*" * 1_000_000],
    ids=["escapes", "cues", "half cues", "Korean", "marks"],
)
def test_boxes_and_cues_cost_linear_time_too(text: str) -> None:
    assert processor_seconds(lambda: (boxes(text), find_after_cue(text), clean(text))) < 20


@pytest.mark.parametrize(
    "reply",
    [
        "Let me check \\boxed{3} first.\n\nInput: n=7.\n\nSo the final answer is \\boxed{7}",
        "I'll work out the answer: step by step.\n\nProblem: Sum of 3 and 4.\n3+4=7\n\nIt is 7.",
        "If 0 <b and c> 3, then </b 2.",
        "First what is asked.\n\nQuestion: 3 + 4?\nThe answer is 7.",
    ],
)
def test_a_reply_that_goes_on_with_its_problem_is_kept(reply: str) -> None:
    assert clean(reply) == reply


@pytest.mark.parametrize("stated", ["#### 7", "The answer is 7.", "\\boxed{7}", "답은 7입니다."])
@pytest.mark.parametrize(
    "further", ["Question: 4+5?\nThe answer is 9.", "### Problem\n\\boxed{9}", "문제: 4+5\n#### 9"]
)
def test_the_first_answer_of_a_continued_prompt_counts(stated: str, further: str) -> None:
    assert clean(f"{stated}\n\n{further}").strip() == stated


@pytest.mark.parametrize(
    "stated", ["The answer is \\boxed{7}.", "The answer is 7.", "Answer: yes", "정답은 서울입니다."]
)
@pytest.mark.parametrize("following", ["Question: ", "### Instruction:\n", "## Problem 2\n", "문제: "])
def test_a_reply_ends_where_the_next_problem_starts(stated: str, following: str) -> None:
    box = "\\boxed{9}" if "boxed" in stated else "9"
    assert clean(f"{stated}\n\n{following}What is 4 + 5?\nThe answer is {box}.").strip() == stated


def test_tags_with_attributes_are_removed() -> None:
    assert clean('<span class="a">7</span><p style="x" id="b">8</p>') == "78"


@pytest.mark.parametrize("cues", [extract.CUES, choice_words.CUES])
@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_the_words_of_a_cue_stand_in_all_that_it_matches(cues: Cues, data: st.DataObject) -> None:
    patterns = cues._patterns
    text = "So: " + data.draw(st.sampled_from(patterns).flatmap(st.from_regex))
    assume("ı" not in text)  # re.IGNORECASE takes it for an i
    everywhere = Cues([f"::{pattern.pattern}" for pattern in patterns])
    assert [phrase.span() for phrase in cues.find(text)] == [phrase.span() for phrase in everywhere.find(text)]


@settings(deadline=None, max_examples=100)
@given(data=st.data(), behind=st.integers(0, 2 * extract._MAX_LAST))
def test_a_row_for_last_words_is_looked_for_in_the_last_characters_alone(data: st.DataObject, behind: int) -> None:
    word = data.draw(st.sampled_from(["so", "따라서"]))
    text = "x" * data.draw(st.integers(0, extract._MAX_LAST)) + word + "." * behind
    cues = Cues(["x::y"], [f"{word}::{word}"])
    assert bool(list(cues.find(text))) is (len(word) + behind <= extract._MAX_LAST)
    assert list(Cues([f"{word}::{word}"]).find(text))
