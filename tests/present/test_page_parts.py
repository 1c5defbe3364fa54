"""What pages are made of: on which side columns stand, and what a policy lets run."""

from itertools import pairwise

from open_exaone.present.evaluation_plots import length_table
from open_exaone.present.page_parts import digest, policy, sides


def test_columns_of_words_stand_to_the_left_and_numbers_to_the_right() -> None:
    rows = [("sft", "reasoning", "1.2%", "−0.4", "0.0 → 27.7", "–"), ("rl", "–", "–", "+3.1", "9.0 s", "")]
    assert sides(rows) == ["word", "word", "", "", "", ""]
    assert sides([["9" + "a" * 63], ["8" * 64]]) == ["word"]
    assert sides([]) == [] and sides([["1"], ["1", "2"]]) == [""]


def test_a_policy_names_each_script_and_nothing_runs_without_one() -> None:
    assert (
        policy("a {}")
        == f"default-src 'none'; style-src 'sha256-{digest('a {}')}'; base-uri 'none'; form-action 'none'"
    )
    both = policy("", ("one", "two"), others="connect-src 'self'")
    assert (
        f"script-src 'sha256-{digest('one')}' 'sha256-{digest('two')}'; " in both and "; connect-src 'self'; " in both
    )


def test_the_table_behind_a_histogram_counts_every_sample_once() -> None:
    correct, others = [0, 5, 9, 199, 200], [3, 3, 100]
    titles, rows = length_table(correct, others)
    assert titles == ["thought tokens", "correct", "not"]
    assert [sum(int(row[place]) for row in rows) for place in (1, 2)] == [5, 3]
    ends = [tuple(map(int, row[0].split(" to "))) for row in rows]
    assert ends[0][0] == 0 and ends[-1][1] == 200
    assert all(low == before + 1 for (_, before), (low, _) in pairwise(ends))
