"""What a stage's table may say of its loss, and what is answered where it is wrong."""

import pytest
from pydantic import Field

from open_exaone.base.config import Config, validate
from open_exaone.base.errors import ConfigError
from open_exaone.learn.preference import Dpo, Ipo, SimPER
from open_exaone.train.config import AnyStage, PreferenceStage
from open_exaone.train.state import fingerprint_of

OPTIMIZER = {"learning_rate": 1e-3}
NAMES = {"name": "it", "data": "rows"}
STAGES = {
    "sft": {"kind": "sft", **NAMES, "num_epochs": 1, "optimizer": OPTIMIZER},
    "preference": {"kind": "preference", **NAMES, "optimizer": OPTIMIZER},
    "rl": {"kind": "rl", **NAMES, "num_steps": 1, "max_new_tokens": 9, "optimizer": OPTIMIZER},
}


class File(Config):
    """As a recipe holds stages."""

    stages: tuple[AnyStage, ...] = Field(min_length=1)


def stage_of(kind, **changes):
    return validate(File, {"stages": [STAGES[kind] | changes]}, "x.toml").stages[0]


@pytest.mark.parametrize(
    ("kind", "loss", "why"),
    [
        ("preference", {"name": "simpr"}, "x.toml: stages.0.loss.name = 'simpr': must be one of simper, dpo, ipo"),
        ("preference", {"beta": 0.2}, "x.toml: stages.0.loss.name: is missing; must be one of simper, dpo, ipo"),
        ("preference", "dpo", "x.toml: stages.0.loss = 'dpo': must be a table, such as { name = \"simper\" }"),
        (
            "preference",
            {"name": "dpo", "bta": 1},
            'x.toml: stages.0.loss.bta: unknown key; did you mean "beta"? Known keys: beta, name',
        ),
        ("preference", {"name": "dpo", "beta": 0}, "x.toml: stages.0.loss.beta = 0: should be greater than 0"),
        ("rl", {"name": "dpo"}, "x.toml: stages.0.loss.name = 'dpo': must be one of grpo"),
        (
            "rl",
            {"name": "grpo", "clip": 0.2},
            'stages.0.loss.clip: unknown key; did you mean "clip_low" or "clip_high"?',
        ),
        (
            "rl",
            {"name": "grpo", "beta": 0.1},
            "x.toml: stages.0.loss.beta: is TRL's name of the weight of a KL: write kl",
        ),
        ("rl", {"clip_low": 0.2}, "x.toml: stages.0.loss.name: is missing; must be one of grpo, dr_grpo, dapo"),
        ("rl", "grpo", "x.toml: stages.0.loss = 'grpo': must be a table, such as { name = \"grpo\" }"),
        ("sft", {"name": "simper"}, "x.toml: stages.0.loss.name = 'simper': must be one of cross_entropy"),
    ],
)
def test_a_wrong_loss_is_refused_with_the_known_ones(kind, loss, why):
    with pytest.raises(ConfigError) as caught:
        stage_of(kind, loss=loss)
    assert why in str(caught.value)


def test_a_wrong_kind_is_refused_with_the_known_ones():
    known = "must be one of pretrain, base, sft, rejection, preference, rl, filter"
    for stage, why in ({"kind": "xyz"}, "kind = 'xyz': "), ({}, "kind: is missing; "):
        with pytest.raises(ConfigError) as caught:
            validate(File, {"stages": [stage]}, "x.toml")
        assert str(caught.value) == f"x.toml: stages.0.{why}{known}"


def test_a_loss_is_a_record_of_its_own_and_part_of_the_fingerprint():
    stages = [
        stage_of("preference"),
        *(stage_of("preference", loss={"name": name}) for name in ("simper", "dpo", "ipo")),
    ]
    assert [stage.loss for stage in stages] == [SimPER(), SimPER(), Dpo(), Ipo()]
    told = [fingerprint_of(stage) for stage in stages]
    assert told[0] == told[1]
    assert told[2:] == [{**told[0], "loss.name": name} for name in ("dpo", "ipo")]
    dumped = stages[2].model_dump(mode="json")
    assert PreferenceStage.model_validate_json(stages[2].model_dump_json()) == stages[2]
    assert dumped["loss"] == {"name": "dpo", "beta": 0.1}
