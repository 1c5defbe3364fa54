"""What may be asked for of a sampling."""

import re
from dataclasses import replace

import pytest

from open_exaone.base.records import Sampling

WARM = Sampling(max_new_tokens=40)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens = 0: must be at least 1"),
        ({"max_new_tokens": 2.5}, "max_new_tokens = 2.5: must be an integer"),
        ({"num_samples": 0}, "num_samples = 0: must be at least 1"),
        ({"num_samples": "2"}, "num_samples = '2': must be an integer"),
        ({"seed": 1.0}, "seed = 1.0: must be an integer"),
        ({"top_k": 5.5}, "top_k = 5.5: must be an integer"),
        ({"thinking_budget": 3.5}, "thinking_budget = 3.5: must be an integer"),
        ({"top_k": 0}, "top_k = 0: must be at least 1; None keeps all"),
        ({"temperature": -1.0}, "temperature = -1.0: must lie in 0 (greedy) to 100"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"top_p": 0.0}, "top_p = 0.0: must lie above 0 and at most 1"),
        ({"min_p": 1.1}, "min_p = 1.1: must lie in 0 to 1"),
        ({"presence_penalty": 2.5}, "presence_penalty = 2.5: must lie in -2 to 2"),
        ({"frequency_penalty": float("nan")}, "frequency_penalty = nan: must lie in -2 to 2"),
        ({"repetition_penalty": 0.0}, "repetition_penalty = 0.0: must lie in 0.01 to 100"),
        ({"logit_bias": {3: 101}}, "logit_bias = 101.0 for id 3: must lie in -100 to 100"),
        ({"logit_bias": {-3: 1}}, "logit_bias: -3 is no token id"),
        ({"logit_bias": [(3, 1), (3, 2)]}, "logit_bias: an id is listed twice"),
        ({"stop_ids": [4, -1]}, "stop_ids: -1 is no token id"),
        ({"stop": [""]}, "must be strings of at least one character"),
        ({"thinking_budget": 40}, "thinking_budget = 40: must be at least 1 and below max_new_tokens = 40"),
    ],
)
def test_a_value_out_of_its_range_is_named(fields, why):
    with pytest.raises(ValueError, match=re.escape(why)):
        replace(WARM, **fields)


def test_a_sampling_is_a_value():
    """However its lists and mappings were given; also after a trip through JSON."""
    given_ways = [
        {"logit_bias": {9: 1, 3: -2.5}, "stop_ids": [7], "stop": "\n"},
        {"logit_bias": [[3, -2.5], [9, 1.0]], "stop_ids": (7,), "stop": ["\n"]},
    ]
    one, other = (replace(WARM, **way) for way in given_ways)
    assert one == other and hash(one) == hash(other)
    assert replace(WARM, temperature=1.0, top_p=1.0, stop="x", stop_ids=[3]).is_raw
    for field in (
        {"top_k": 5},
        {"min_p": 0.1},
        {"frequency_penalty": 1},
        {"repetition_penalty": 2},
        {"logit_bias": {1: 1}},
    ):
        assert not replace(WARM, **field).is_raw
