"""The names of all losses."""

from typing import get_args

import pytest

from open_exaone.learn.cross_entropy import SUPERVISED_LOSSES, SupervisedLoss
from open_exaone.learn.policy import POLICY_LOSSES, PolicyLoss
from open_exaone.learn.preference import PREFERENCE_LOSSES, PreferenceLoss


@pytest.mark.parametrize(
    ("union", "table"),
    [(PreferenceLoss, PREFERENCE_LOSSES), (PolicyLoss, POLICY_LOSSES), (SupervisedLoss, SUPERVISED_LOSSES)],
)
def test_every_name_that_a_recipe_may_give_has_its_function_and_its_public_name(union, table):
    from open_exaone import learn

    members = get_args(get_args(union)[0]) if get_args(union) else (union,)
    assert [member().name for member in members] == list(table)
    for name, function in table.items():
        assert getattr(learn, function.__name__) is function
        assert name in function.__name__
