"""Stage `preference`: learn pairs of a chosen and a rejected reply, labelled replies, or groups with rewards."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_jsonl
from open_exaone.data.batch import Batch
from open_exaone.data.document import Document, Unit
from open_exaone.data.store import Lazy
from open_exaone.learn.preference import PREFERENCE_LOSSES, Replies
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.accumulate import Metrics
from open_exaone.train.config import PreferenceStage
from open_exaone.train.forward import learned_logprobs, summed
from open_exaone.train.loop import StepData
from open_exaone.train.parallel.world import ALONE, World
from open_exaone.train.reference import unit_logprobs, with_reference
from open_exaone.train.state import NOTHING, Memory


@dataclass(frozen=True, slots=True)
class Step:
    """What a micro-batch must know of its whole step; S is the two sides."""

    num_S: tuple[int, int] = (0, 0)  # replies with a positive and with a negative advantage
    num_replies: int = 0
    num_pairs: int = 0  # 0 unless all units are pairs
    kl: float = 0.0  # KTO's z0


@dataclass
class Preference:
    """A preference loss on fixed units; `open_preference` completes them for a loss that compares with a reference."""

    config: PreferenceStage
    units: Sequence[Unit]
    steps: Sequence[list[int]]  # which units each step takes
    mismatched: Sequence[Unit] = ()  # KTO's: of each unit, its replies behind another example's prompt
    model: LanguageModel | None = None  # that is trained, where z0 is made of it
    world: World = ALONE
    step: Step = field(default_factory=Step)  # the one that was begun

    @property
    def num_steps(self) -> int:
        return len(self.steps)

    def step_data(self, step: int, memory: Memory = NOTHING) -> StepData:
        units = [self.units[index] for index in self.steps[step]]
        advantages = [document.advantage for unit in units for document in unit]
        are_pairs = all(sorted(document.advantage for document in unit) == [-1.0, 1.0] for unit in units)
        self.step = Step(
            (sum(a > 0 for a in advantages), sum(a < 0 for a in advantages)),
            len(advantages),
            len(units) if are_pairs else 0,
            self._kl([self.mismatched[index] for index in self.steps[step]]) if self.mismatched else 0.0,
        )
        num_learned = len(advantages) if self.config.loss.learns == "replies" else len(units)
        return StepData(units, num_learned, {"kl": self.step.kl} if self.mismatched else {})

    def _kl(self, units: Sequence[Unit]) -> float:
        """KTO's z0 under the model as it is, dropout left out; NaN where a log-probability is."""
        assert self.model is not None
        references = torch.tensor([document.reference_logprob for unit in units for document in unit])
        logprobs_D = unit_logprobs(units, self.model, self.config.micro_batch_tokens, self.world)
        return float((logprobs_D - references).mean().clamp(min=0.0))

    def loss(self, model: LanguageModel, batch: Batch, denominator: float) -> tuple[Tensor, Metrics]:
        logprobs_M, entropies_M, documents_M = learned_logprobs(model, batch)
        device, num_documents = logprobs_M.device, len(batch.advantages_D)
        counts_D = summed(torch.ones_like(logprobs_M), documents_M, num_documents)
        replies = Replies(
            summed(logprobs_M, documents_M, num_documents),
            counts_D,
            torch.from_numpy(batch.advantages_D).to(device),
            torch.from_numpy(batch.units_D).to(device),
            None if batch.reference_D is None else torch.from_numpy(batch.reference_D).to(device),
            self.step.kl,
        )
        settings = self.config.loss
        entropies_D = summed(entropies_M, documents_M, num_documents) / counts_D
        with torch.no_grad():
            metrics = self._metrics(replies, entropies_D)
        return PREFERENCE_LOSSES[settings.name](replies, denominator, settings), metrics

    def notes(self, folder: Path) -> list[str]:
        """What a report must state of the stage that is done: that both sides' likelihood fell, where it did.

        Args:
            folder: the stage's, with its metrics.
        """
        keys = ("chosen_probability", "rejected_probability")
        rows = [row for row in read_jsonl(folder / "metrics.jsonl") if all(row.get(key) is not None for key in keys)]
        if not rows or not all(rows[-1][key] < rows[0][key] for key in keys):
            return []
        first, last = rows[0], rows[-1]
        sides = [f"{key.partition('_')[0]} {first[key]:.3g} → {last[key]:.3g}" for key in keys]
        return [
            f"from step {first['step']:,} to step {last['step']:,} the likelihood of both sides fell (exp of a reply's "
            f"mean log-probability: {', '.join(sides)}), not that of the rejected replies alone"
        ]

    def _metrics(self, replies: Replies, entropies_D: Tensor) -> Metrics:
        """The micro-batch's share of the step's means over replies, over each side, and over pairs."""
        step, values_D = self.step, self.config.loss.values_D(replies)
        metrics = {"entropy": float(entropies_D.sum()) / max(1, step.num_replies)}
        sides_SD = (replies.advantages_D > 0, replies.advantages_D < 0)
        means = []
        for side, is_one_D, number in zip(("chosen", "rejected"), sides_SD, step.num_S, strict=True):
            if number:
                metrics[f"{side}_probability"] = float(replies.mean_logprobs_D[is_one_D].exp().sum()) / number
                metrics[f"{side}_logprob"] = float(replies.logprobs_D[is_one_D].sum()) / number
                means.append(float(values_D[is_one_D].sum()) / number)
        if len(means) == 2:
            metrics["reward_margin"] = means[0] - means[1]
        if step.num_pairs:
            metrics["accuracy"] = float((replies.margins_U(values_D) > 0).sum()) / step.num_pairs
        return metrics


def open_preference(
    stage: PreferenceStage,
    units: Sequence[Unit],
    steps: Sequence[list[int]],
    model: LanguageModel,
    folder: Path,
    world: World = ALONE,
) -> Preference:
    """The stage's objective, with reference log-probabilities where its loss needs them.

    Args:
        model: with the weights that the stage begins from.
        folder: the stage's.

    Raises:
        DataError: KTO is given a single prompt.
        Interrupted, RunFolderError: see `with_reference`.
    """
    if stage.loss.name != "kto":
        return Preference(stage, with_reference(units, model, folder, stage, world), steps, world=world)
    num, others = len(units), mismatched(units, model.config.max_positions)
    both = Lazy(2 * num, lambda index: units[index] if index < num else others[index - num])
    known = with_reference(both, model, folder, stage, world)
    return Preference(
        stage,
        Lazy(num, lambda index: known[index]),
        steps,
        Lazy(num, lambda index: known[num + index]),
        model,
        world,
    )


def mismatched(units: Sequence[Unit], max_tokens: int) -> Sequence[Unit]:
    """Of each unit, its replies behind the prompt of the next unit that has another one, in the data set's order.

    Args:
        max_tokens: a longer document loses the beginning of its prompt.

    Raises:
        DataError: where a unit is made, and all units have the same prompt.
    """

    def made(index: int) -> Unit:
        own = _parts(units[index][0])[0]
        others = (_parts(units[(index + step) % len(units)][0])[0] for step in range(1, len(units)))
        prompt = next((other for other in others if not np.array_equal(other, own)), None)
        if prompt is None:
            raise DataError(
                "kto compares each reply with the same reply after another prompt, and all examples have "
                "the same prompt: give it rows with at least two prompts"
            )
        return tuple(_behind(prompt, document, max_tokens) for document in units[index])

    return Lazy(len(units), made)


def _parts(document: Document) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The ids of the prompt, those of the reply, and the reply's loss mask."""
    ids, loss_mask = np.asarray(document.ids), np.asarray(document.loss_mask, np.bool_)
    start = int(loss_mask.argmax())
    return ids[:start], ids[start:], loss_mask[start:]


def _behind(prompt: np.ndarray, document: Document, max_tokens: int) -> Document:
    _, reply, loss_mask = _parts(document)
    kept = prompt[-max(1, max_tokens - len(reply)) :]
    mask = np.concatenate([np.zeros(len(kept), np.bool_), loss_mask])
    return replace(document, ids=np.concatenate([kept, reply]), loss_mask=mask)
