"""Which data sets of reasoning-gym are taken: all that fulfil this rule, and none besides.

Of 5,000 items, drawn with the data set's own default settings from seed 0:

1. each is drawn within five seconds of its thread's time on the processor: some items of `number_sequence` square
   themselves for minutes;
2. the mean question has at most 120 characters;
3. every answer is one integer or one word of the letters a to z;
4. at least nineteen in twenty questions are different;
5. the data set's own scorer gives 1.0 to the gold answer, and to a fixed list of junk neither 1.0 nor an exception;
6. no answer is that of more than one item in twenty;
7. its problems are not those of another set and take no sieve of numbers: `OTHERWISE` has the two that this leaves out.

For reasoning-gym 0.1.25 that leaves the three sets of `gym.SETTINGS`.
`game_of_life_halting`, whose scorer takes any text for right, falls to points 2 and 5.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

NUM_ITEMS = 5_000
MAX_ITEM_S = 5.0
MAX_MEAN_QUESTION_CHARS = 120
MIN_DISTINCT_SHARE = 0.95
MAX_SHARE_OF_ANSWER = 0.05
OTHERWISE = {"basic_arithmetic": "the sums of chain_sum", "count_primes": "a sieve of hundreds of numbers"}
ANSWER = re.compile(r"-?[0-9]+|[A-Za-z]+")
JUNK = ("", "?", "\\", "x y", "None", "True", "nan", "-1e999", "1e400", "1/0", "0.5x", "[]", "½", "답", "9" * 5_000)
NUM_JUDGED_JUNK = 20  # items that are offered all the junk


def candidates() -> tuple[str, ...]:
    """Every data set that the installed reasoning-gym knows; `composite` only mixes others."""
    from reasoning_gym.factory import DATASETS

    return tuple(sorted(set(DATASETS) - {"composite"}))


def fault(name: str, num_items: int = NUM_ITEMS) -> str | None:
    """What keeps a data set out, in a few words; None if nothing does."""
    from reasoning_gym import create_dataset

    data_set = create_dataset(name, seed=0)
    items = list[dict[str, Any]]()
    for item, seconds in _timed(data_set, num_items):
        if seconds > MAX_ITEM_S:
            return f"item {len(items)} takes {seconds:.1f} s"
        items.append(item)
    return _fault_of_text(items) or _fault_of_scorer(data_set, items) or _fault_of_answers(items) or OTHERWISE.get(name)


def _timed(data_set: Any, num_items: int) -> Iterator[tuple[dict[str, Any], float]]:
    for index in range(num_items):
        start = time.thread_time()
        yield data_set[index], time.thread_time() - start


def _fault_of_text(items: list[dict[str, Any]]) -> str | None:
    mean_chars = sum(len(item["question"]) for item in items) / len(items)
    if mean_chars > MAX_MEAN_QUESTION_CHARS:
        return f"the mean question has {mean_chars:.0f} characters"
    for item in items:
        if not isinstance(item["answer"], str) or not ANSWER.fullmatch(item["answer"]):
            return f"the answer {item['answer']!r} is neither one integer nor one word"
    distinct_share = len({item["question"] for item in items}) / len(items)
    if distinct_share < MIN_DISTINCT_SHARE:
        return f"only {distinct_share:.0%} of the questions are different"
    return None


def _fault_of_answers(items: list[dict[str, Any]]) -> str | None:
    [(answer, times)] = Counter(item["answer"] for item in items).most_common(1)
    if times > MAX_SHARE_OF_ANSWER * len(items):
        return f"{times / len(items):.0%} of the answers are {answer}"
    return None


def _fault_of_scorer(data_set: Any, items: list[dict[str, Any]]) -> str | None:
    for item in items:
        if data_set.score_answer(item["answer"], item) != 1.0:
            return f"the scorer refuses the gold answer {item['answer']!r}"
    for item in items[:NUM_JUDGED_JUNK]:
        for junk in JUNK:
            try:
                if data_set.score_answer(junk, item) == 1.0:
                    return f"the scorer takes {junk[:20]!r} for right"
            except Exception as error:  # whatever a scorer raises is the finding
                return f"the scorer raises {type(error).__name__} on {junk[:20]!r}"
    return None
