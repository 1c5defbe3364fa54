"""What a stage of a recipe may say. No torch here, so that recipes parse quickly."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from open_exaone.base.config import Config
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.cross_entropy import CrossEntropy, SupervisedLoss
from open_exaone.learn.policy import Grpo, PolicyLoss
from open_exaone.learn.preference import PreferenceLoss, SimPER
from open_exaone.model.context import ContextConfig
from open_exaone.model.lora_config import LoraConfig
from open_exaone.rewards.rubric import Reward, Rubric, weights_of
from open_exaone.rollout.config import SamplingConfig
from open_exaone.rollout.select import CorrectPairs, PairRule
from open_exaone.train.settings import KeepConfig, LoggingConfig


class _Stage(Config):
    """What every stage has."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """Names the stage in its folder, in the report and in --set; unique in a recipe."""
    start: str | None = None
    """The earlier stage whose model it begins from, or "model" for the recipe's own; the stage before if left out."""
    data: str
    """Which of the recipe's data it reads: `[data.NAME]`; or, by its name, an earlier filter, of which it reads what is
    kept."""
    max_tokens: int | None = Field(default=None, ge=2)
    """The longest example in tokens, or of problems the longest prompt; the model's context if left out."""
    seed: int | None = Field(default=None, ge=0, le=2**31)
    """The seed of its samples and of its order of the data; the recipe's if left out."""


class StageConfig(_Stage):
    """What every stage that trains has."""

    lora: LoraConfig | None = None
    """Train low-rank adapters beside frozen weights; all weights are trained if left out."""
    optimizer: OptimizerConfig
    """The optimizer and its learning rate."""
    micro_batch_tokens: int = Field(default=4096, gt=0)
    """The most tokens in one forward and backward pass; changes memory, not the result."""
    recompute_activations: bool = False
    """Keep one tensor a layer and compute the rest again in the backward pass: a third slower, far less memory."""
    checkpoint_steps: int = Field(default=100, gt=0)
    """Optimizer steps between saved states; a killed run loses at most as many."""
    suite: str | None = None
    """A suite or a benchmark that this stage's model is measured on besides, as `exaone eval --suite` takes it; such as
    needle tests after the context was extended."""
    keep: KeepConfig = KeepConfig()
    """Which saved states stay, and how they are written."""
    logging: LoggingConfig = LoggingConfig()
    """Where its metrics go while it trains, and what stops it."""


class BudgetConfig(Config):
    """How much a stage trains: one of the two."""

    flops: float | None = Field(default=None, gt=0, le=1e30)
    """Floating-point operations, as `exaone run --dry-run` counts them; those of its own samples too."""
    tokens: float | None = Field(default=None, gt=0, le=1e18)
    """Tokens that go forward and backward."""

    @model_validator(mode="after")
    def _check_one(self) -> Self:
        if (self.flops is None) == (self.tokens is None):
            raise ValueError("give either flops, such as flops = 1e13, or tokens, such as tokens = 2e6")
        return self


class _WrittenStage(StageConfig):
    """What every stage has that learns what is written."""

    num_epochs: float | None = Field(default=None, gt=0, le=1000)
    """Passes over the data."""
    budget: BudgetConfig | None = None
    """How much is trained, instead of a number of passes, such as { flops = 1e13 } or { tokens = 2e6 }."""
    batch_documents: int = Field(default=64, gt=0)
    """Conversations in one optimizer step."""
    loss: SupervisedLoss = CrossEntropy()
    """What is minimised, such as { name = "cross_entropy", label_smoothing = 0.1, z_loss = 1e-4 }."""

    @model_validator(mode="after")
    def _check_length(self) -> Self:
        if self.num_epochs is None and self.budget is None:
            raise ValueError("num_epochs: is missing: give the passes over the data, or a budget")
        if self.num_epochs is not None and self.budget is not None:
            raise ValueError("num_epochs: has no effect beside budget: leave one of the two out")
        return self


class SupervisedStage(_WrittenStage):
    """Learns what is written: `pretrain` texts, `base` worked replies in non-reasoning mode, `sft` with thoughts."""

    kind: Literal["pretrain", "base", "sft"]
    """"pretrain": whole texts; "base": direct answers, loss on whole conversations; "sft": thoughts and answers, loss
    on the reply."""
    batch_tokens: int | None = Field(default=None, gt=0)
    """Tokens in one optimizer step, instead of so many conversations; they may be spread over many passes."""
    context: ContextConfig | None = None
    """Give the model a longer context from this stage on, such as { max_positions = 131_072, rope_theta = 1e6 }."""
    validation: str | None = None
    """Data that is not learned: its loss is logged as `validation_loss`."""
    validation_steps: int = Field(default=100, gt=0)
    """Steps between two evaluations of the validation loss."""

    @property
    def thinking(self) -> bool:
        """Whether the model that it leaves is asked in reasoning mode."""
        return self.kind == "sft"


class RejectionStage(_WrittenStage, SamplingConfig):
    """Rejection-sampling fine-tuning (RFT: Yuan et al. 2023, arXiv 2308.01825): samples replies of the model that it
    begins from, keeps those that are correct and unlike one another, and learns them as SFT does."""

    kind: Literal["rejection"]
    """"rejection": sample replies to problems, judge them, and learn the correct ones that differ."""
    num_samples: int = Field(default=8, ge=1, le=1024)
    """The samples of each problem."""
    replies_per_problem: int = Field(default=4, ge=1, le=1024)
    """The most replies of a problem that are learned."""
    min_distance: float = Field(default=0.05, ge=0, le=1)
    """How unlike every other kept reply to the problem a reply must be, 0 (any) to 1 (nothing in common)."""
    temperature: float = Field(default=1.0, gt=0, le=10)
    """The temperature at which replies are sampled."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling: keep the most likely tokens up to this total probability."""
    max_new_tokens: int = Field(default=1024, gt=0)
    """The longest sampled reply in tokens, its thought included."""
    mode: Literal["reasoning", "non_reasoning"] = "reasoning"
    """The mode in which samples are drawn, for sources without a mode."""

    @property
    def thinking(self) -> bool:
        return self.mode == "reasoning"


class ReuseConfig(Config):
    """Pairs of an earlier stage that are learned again, as EXAONE 4.0's second preference stage does (how many is
    ours)."""

    stage: str
    """The earlier preference stage that sampled them."""
    share: float = Field(gt=0, le=1)
    """How many of that stage's pairs, drawn at random."""


def _known(reward: Reward) -> Reward:
    weights_of(reward)
    return reward


KnownReward = Annotated[Reward, AfterValidator(_known)]


class PreferenceStage(StageConfig, SamplingConfig):
    """Learns from pairs of a chosen and a rejected reply: those in its data or, where its data are problems, those
    chosen from the model's own judged samples. KTO also learns from single replies with a label, GrouPER from whole
    groups of samples with rewards."""

    kind: Literal["preference"]
    """"preference": learn from pairs. Where its data are problems, it samples, judges the samples, and pairs them by
    `pairs`."""
    num_epochs: float = Field(default=1.0, gt=0, le=1000)
    """Passes over the pairs, or over the replies or groups."""
    loss: PreferenceLoss = SimPER()
    """What is minimised, such as { name = "simper" } or { name = "dpo", beta = 0.1 }."""
    batch_pairs: int = Field(default=32, gt=0)
    """Pairs in one optimizer step; replies where each is an example of its own (KTO), groups with GrouPER."""
    num_samples: int = Field(default=8, ge=2, le=1024)
    """Where its data are problems: the samples of each."""
    pairs: PairRule = CorrectPairs(rule="correct")
    """Where its data are problems: which sample is chosen and which rejected, such as { rule = "shortest_correct" }."""
    pairs_per_problem: int = Field(default=1, gt=0)
    """Where its data are problems: the most pairs that one gives. GrouPER takes the whole group."""
    reuse: ReuseConfig | None = None
    """Where its data are problems: pairs of an earlier stage that are learned besides; none if left out."""
    reward: KnownReward = "correct"
    """Where its data are problems, with GrouPER or { rule = "reward" }: what is rewarded, as in stage `rl`."""
    rubric: Rubric = Rubric()
    """With that reward: what each verdict earns in the term "correct"."""
    temperature: float = Field(default=1.0, gt=0, le=10)
    """Where its data are problems: the temperature at which replies are sampled."""
    max_new_tokens: int = Field(default=1024, gt=0)
    """Where its data are problems: the longest sampled reply in tokens, its thought included."""
    mode: Literal["reasoning", "non_reasoning"] = "reasoning"
    """The mode in which samples are drawn, for sources without a mode."""

    @property
    def thinking(self) -> bool:
        return self.mode == "reasoning"

    @model_validator(mode="after")
    def _check_used(self) -> Self:
        if self.loss.learns == "groups":
            idle, why = {"pairs", "pairs_per_problem", "reuse"}, f"{self.loss.name} keeps whole groups"
        elif not self.pairs.needs_reward:
            idle = {"reward", "rubric"}
            why = f'{self.loss.name} learns from verdicts; pairs = {{ rule = "reward" }} or loss grouper needs a reward'
        else:
            idle, why = set(), ""
        for name in self.model_dump(include=idle, exclude_defaults=True):
            raise ValueError(f"{name}: has no effect: {why}: leave it out")
        return self


SAMPLING_KEYS = (  # of a preference stage that samples its pairs; refused beside rows of pairs
    *("num_samples", "pairs", "pairs_per_problem", "reuse", "temperature", "max_new_tokens", "mode", "reward"),
    *("rubric", *SamplingConfig.model_fields),
)
_WHOLE = (
    "RL samples from the full distribution, because it trains the probabilities of all tokens: leave it out; "
    "`temperature` applies to both sampling and training"
)


class RlStage(StageConfig):
    """Online reinforcement learning: prompts with answers only."""

    refused_keys: ClassVar[Mapping[str, str]] = {
        **dict.fromkeys((*SamplingConfig.model_fields, "top_p"), _WHOLE),
        "num_epochs": "RL counts steps of fresh samples: write num_steps; num_iterations are passes over one step's",
        "num_generations": "is TRL's name: write group_size",
        "max_completion_length": "is TRL's name: write max_new_tokens",
    }
    kind: Literal["rl"]
    """"rl": sample a group for each prompt, judge, push up what was better than its siblings."""
    num_steps: int = Field(gt=0)
    """Times that fresh samples are drawn; each is followed by `num_iterations` x `num_minibatches` optimizer steps."""
    batch_prompts: int = Field(default=32, gt=0)
    """Prompts in one step."""
    max_prompts: int | None = Field(default=None, gt=0)
    """Groups that teach nothing are replaced by those of further prompts, until `batch_prompts` groups teach or so many
    prompts have been asked in the step; none is replaced if left out."""
    group_size: int = Field(default=8, ge=2, le=1024)
    """G, samples of each prompt."""
    num_iterations: int = Field(default=1, gt=0, le=100)
    """Passes over each step's samples, as TRL's. With one pass and one minibatch, ratios are 1 and no clip acts."""
    num_minibatches: int = Field(default=1, gt=0, le=1000)
    """Optimizer steps in one pass, each on its share of the groups."""
    max_staleness: int = Field(default=0, ge=0, le=16)
    """Draw each step's samples while the trainer still learns from earlier ones, from the model as it was so many
    steps before, at most; 0 draws them from the model as it is. Needs a vLLM server."""
    temperature: float = Field(default=1.0, gt=0, le=10)
    """The temperature at which samples are drawn, and at which the trainer computes their probabilities."""
    max_new_tokens: int = Field(gt=0)
    """The longest sampled reply in tokens, its thought included."""
    mask_truncated: bool = False
    """Leave replies that reached `max_new_tokens` out of their group, instead of rewarding them by the rubric."""
    loss: PolicyLoss = Grpo()
    """What is minimised, such as { name = "grpo", divide_by_std = false } or { name = "agapo" }."""
    reference: str | None = None
    """The stage whose model `loss.kl` is measured from; the model that this stage begins from if left out."""
    reference_refresh_steps: int | None = Field(default=None, gt=0)
    """Steps, as `num_steps` counts them, after which the reference becomes the policy as it then is; it stays the same
    if left out."""
    reward: KnownReward = "correct"
    """What is rewarded: a term, a function of your own ("my_rewards.py:score"), or a table of them with weights."""
    rubric: Rubric = Rubric()
    """What each verdict earns in the term "correct"."""
    mode: Literal["reasoning", "non_reasoning"] = "reasoning"
    """The mode in which samples are drawn, for sources without a mode."""
    curriculum: Literal["easiest_first", "hardest_first"] | None = None
    """Order the prompts of each epoch by the pass rate that a filter measured; drawn at random if left out."""

    @property
    def thinking(self) -> bool:
        return self.mode == "reasoning"

    @property
    def num_updates(self) -> int:
        """Optimizer steps on each step's samples."""
        return self.num_iterations * self.num_minibatches

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_prompts is not None and self.max_prompts <= self.batch_prompts:
            raise ValueError(
                f"max_prompts = {self.max_prompts}: must be above batch_prompts = {self.batch_prompts}, or left out"
            )
        if self.num_minibatches > self.batch_prompts:
            raise ValueError(
                f"num_minibatches = {self.num_minibatches}: must be at most batch_prompts = {self.batch_prompts}"
            )
        if (self.num_updates > 1 or self.max_staleness) and self.loss.needs_on_policy:
            what = f"loss {self.loss.name!r}" if self.loss.is_on_policy else 'kl.estimator = "sequence"'
            why = f"{self.num_updates} updates on each step's samples (num_iterations, num_minibatches)"
            fix = "one pass and one minibatch"
            if self.num_updates == 1:
                why, fix = f"max_staleness = {self.max_staleness}", "max_staleness = 0"
            raise ValueError(
                f"{what} is correct for on-policy samples only, and this stage has {why}: use "
                f'{{ name = "agapo_off_policy" }}, or {fix}'
            )
        if self.loss.divergence is None:
            for name in ("reference", "reference_refresh_steps"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect without loss.kl: leave it out, or set loss.kl")
        return self


class FilterConfig(SamplingConfig):
    """How problems are sampled, and which of them are kept: EXAONE 4.0's accuracy filter (arXiv 2507.11407)."""

    num_samples: int = Field(default=8, ge=1, le=1024)
    """The samples of each problem."""
    min_correct: int = Field(default=0, ge=0)
    """Problems of which fewer samples are correct are dropped."""
    max_correct: int | None = Field(default=None, ge=0, validate_default=True)
    """Problems of which more samples are correct are dropped; num_samples - 1 if left out, which drops those that are
    always solved."""
    temperature: float = Field(default=1.0, gt=0, le=10)
    """The temperature at which replies are sampled."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Nucleus sampling: keep the most likely tokens up to this total probability."""
    max_new_tokens: int = Field(default=1024, gt=0)
    """The longest sampled reply in tokens, its thought included."""
    mode: Literal["reasoning", "non_reasoning"] = "reasoning"
    """The mode in which samples are drawn, for sources without a mode."""

    @property
    def most_correct(self) -> int:
        """`max_correct`, or its default."""
        return self.num_samples - 1 if self.max_correct is None else self.max_correct

    @property
    def thinking(self) -> bool:
        return self.mode == "reasoning"

    @field_validator("max_correct")
    @classmethod
    def _in_range(cls, max_correct: int | None, info: ValidationInfo) -> int | None:
        num_samples, min_correct = info.data.get("num_samples"), info.data.get("min_correct")
        if num_samples is None or min_correct is None:  # wrong itself
            return max_correct
        most, left_out = max_correct, ""
        if most is None:
            most, left_out = num_samples - 1, f" (num_samples - 1 = {num_samples - 1} if left out)"
        if not min_correct <= most <= num_samples:
            raise ValueError(f"must lie in min_correct = {min_correct} to num_samples = {num_samples}{left_out}")
        return max_correct


class FilterStage(_Stage, FilterConfig):
    """Keeps the problems that its starting model solves sometimes; it trains nothing and leaves no model."""

    kind: Literal["filter"]
    """"filter": sample replies to problems, judge them, and keep the problems with a pass rate between two ends."""


TrainedStage = SupervisedStage | RejectionStage | PreferenceStage | RlStage
AnyStage = Annotated[TrainedStage | FilterStage, Field(discriminator="kind")]
