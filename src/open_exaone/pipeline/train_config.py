"""What `exaone train` reads: one stage by itself, from a model and data of one's own. Loads no torch."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from open_exaone.base.config import Config, parse_override, read_toml, validate
from open_exaone.base.errors import ConfigError
from open_exaone.data.config import DataConfig
from open_exaone.model.config import ModelConfig
from open_exaone.model.lora_config import LoraConfig
from open_exaone.pipeline.recipe import set_value
from open_exaone.rewards.rubric import weights_of
from open_exaone.train.config import PreferenceStage, RlStage, SupervisedStage
from open_exaone.verify.settings import JudgeSettings


class TrainConfig(Config):
    """One stage of training by itself."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """What the run is called; its folder is runs/NAME where none is given."""
    seed: int = Field(default=0, ge=0, le=2**31)
    """Of random weights, the order of the data, the adapters and the samples."""
    model: str | None = None
    """Where training begins: a model's or a run's folder, or a name on the hub."""
    shape: ModelConfig | None = None
    """Instead of `model`: the shape of a model that begins with random weights."""
    tokenizer: str | None = None
    """A folder or a name on the hub. If left out: the model's own; beside a `shape`, one trained on the data."""
    chat_format: str | None = None
    """How conversations are rendered; the tokenizer's own way if left out."""
    max_tokens: int | None = Field(default=None, ge=2)
    """The longest example, in tokens; the model's context if left out."""
    data: DataConfig
    """What it learns from."""
    validation: DataConfig | None = None
    """Data that is not learned; its loss is told, and `stage.keep.best = "validation_loss"` keeps the best state."""
    validation_steps: int = Field(default=100, gt=0)
    """Steps between two looks at the validation data."""
    stage: Annotated[SupervisedStage | PreferenceStage | RlStage, Field(discriminator="kind")]
    """What is done with it."""
    lora: LoraConfig | None = None
    """Train adapters beside frozen weights; all weights are trained if left out."""
    judge: JudgeSettings = JudgeSettings()
    """What judging may cost; for online RL."""
    num_slots: int | None = Field(default=None, gt=0, le=4096)
    """Samples that decode together in online RL; as many as the memory holds if left out."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.model is None) == (self.shape is None):
            raise ValueError("give either model, to go on from its weights, or [shape], for random ones")
        if self.shape is not None and self.lora is not None:
            raise ValueError("lora: adapters beside frozen random weights teach nothing: leave [lora] out")
        if self.validation is not None and self.stage.kind not in ("pretrain", "sft"):
            raise ValueError("validation: has a loss for pretrain and sft alone: leave [validation] out")
        optimizer = self.stage.optimizer
        is_default = "matrix_learning_rate" not in optimizer.model_fields_set
        if is_default and self.model and not self.lora and optimizer.kind == "muon":
            raise ValueError(
                "stage.optimizer.matrix_learning_rate: is missing; its default is for random weights, and moves "
                "trained ones far: 2e-4 is gentle"
            )
        if self.stage.kind == "base":
            raise ValueError('stage.kind = "base" is a recipe\'s: here "pretrain" learns whole texts, "sft" replies')
        if self.judge.unsafe_code_execution:
            raise ValueError("judge.unsafe_code_execution: no file may say this: give --unsafe-code-execution yourself")
        rewards = weights_of(self.stage.reward) if self.stage.kind == "rl" else {}
        if self.lora is not None and self.lora.dropout and self.stage.kind == "rl":
            raise ValueError(
                f"lora.dropout = {self.lora.dropout}: samples are drawn without dropout, and RL must train the policy "
                "that was sampled: leave it out"
            )
        if self.judge.endpoint is None and "preference" in rewards:
            raise ValueError("reward 'preference' needs a model: give [judge.endpoint] its base_url and model")
        return self


def load_train_config(source: Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> TrainConfig:
    """Reads a TOML file, or takes what one would hold, and sets dotted keys in it.

    Raises:
        ConfigError: a value is wrong; names the file, key, value and what is allowed.
    """
    values = copy.deepcopy(dict(source)) if isinstance(source, Mapping) else read_toml(source)
    for text in overrides:
        keys, value = parse_override(text)
        if keys[0] not in TrainConfig.model_fields:
            known = ", ".join(TrainConfig.model_fields)
            raise ConfigError(f"--set {text}: {keys[0]!r} is none of {known}")
        set_value(values, keys, value, f"--set {text}")
    return validate(TrainConfig, values, "config" if isinstance(source, Mapping) else str(source))
