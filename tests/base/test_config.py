"""A mistake in a configuration names the nearest known word."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from open_exaone.base.config import Config, did_you_mean, validate
from open_exaone.base.errors import ConfigError


class AdamW(Config):
    kind: Literal["adamw"]
    learning_rate: float


class Muon(Config):
    kind: Literal["muon"]
    learning_rate: float
    momentum: float = 0.95


class Grpo(Config):
    name: Literal["grpo"]
    clip_low: float = 0.2


class Dapo(Config):
    name: Literal["dapo"]
    clip_high: float = 0.28


class Stage(Config):
    optimizer: Annotated[AdamW | Muon, Field(discriminator="kind")]
    loss: Annotated[Grpo | Dapo, Field(discriminator="name")] = Grpo(name="grpo")
    dtype: Literal["float32", "bfloat16"] = "float32"


ADAMW = {"kind": "adamw", "learning_rate": 1e-4}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"optimizer": {"kind": "adamw", "learning_rte": 1e-4}},
            'optimizer.learning_rte: unknown key; did you mean "learning_rate"? Known keys: kind, learning_rate',
        ),
        ({"optimiser": ADAMW}, 'optimiser: unknown key; did you mean "optimizer"? Known keys: dtype, loss, optimizer'),
        ({"optimizer": ADAMW, "zzz": 1}, "zzz: unknown key. Known keys: dtype, loss, optimizer"),
        (
            {"optimizer": {**ADAMW, "kind": "adam"}},
            "optimizer.kind = 'adam': must be one of adamw, muon; did you mean \"adamw\"?",
        ),
        ({"optimizer": {"learning_rate": 1.0}}, "optimizer.kind: is missing; must be one of adamw, muon"),
        (
            {"optimizer": ADAMW, "loss": {"name": "GRP0"}},
            "loss.name = 'GRP0': must be one of grpo, dapo; did you mean \"grpo\"?",
        ),
        (
            {"optimizer": ADAMW, "loss": {"name": "dapo", "clip_hig": 0.3}},
            'loss.clip_hig: unknown key; did you mean "clip_high"? Known keys: clip_high, name',
        ),
        (
            {"optimizer": ADAMW, "dtype": "bf16"},
            "dtype = 'bf16': must be one of float32, bfloat16; did you mean \"bfloat16\"?",
        ),
        ({"optimizer": ADAMW, "dtype": "int8"}, "dtype = 'int8': must be one of float32, bfloat16"),
    ],
)
def test_a_wrong_word_names_the_nearest_known_one(values, message) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(Stage, values, "x.toml")
    assert f"x.toml: {message}" in str(caught.value).splitlines()


def test_did_you_mean_names_at_most_three_and_compares_no_long_name() -> None:
    assert did_you_mean("MATH-50", ("math_500", "gsm8k")) == '; did you mean "math_500"?'
    assert did_you_mean("colour", ("depth", "width")) == "."
    assert did_you_mean("lr", ("matrix_learning_rate", "learning_rate")) == '; did you mean "learning_rate"?'
    assert did_you_mean("math", [f"math_{number}" for number in range(9)]).count('"') == 6
    assert did_you_mean("x" * 1_000_000, ("math_500",)) == "."


def test_bytes_that_are_not_utf_8_are_named() -> None:
    with pytest.raises(ConfigError, match=r"--out: .*caf.udce9.*: is not UTF-8 text"):
        validate(Plain, {"name": "caf\udce9"}, "--out")


class Plain(Config):
    """One text."""

    name: str
