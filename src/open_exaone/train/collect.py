"""A step's samples: groups for so many prompts, and for further ones in the place of groups that teach nothing.

The rollouts are on disk before the update that they cause; a step that is run again reads them.
"""

import functools
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from open_exaone.base.errors import DataError, PromptTooLongError
from open_exaone.base.log import logger
from open_exaone.base.records import Problem, Request, RolloutGroup, Sampling
from open_exaone.model.lora import plain_weights
from open_exaone.model.transformer import LanguageModel
from open_exaone.remote.settings import WITHOUT_ADDRESS
from open_exaone.rewards.rubric import weights_of
from open_exaone.rollout.judge_outage import Patience
from open_exaone.rollout.provider import Provider, Seen, requests_for
from open_exaone.rollout.run import Judging, judge_groups, judge_some, sample_requests
from open_exaone.train.buffer import buffer_key, read_rollouts, rollout_groups, rollout_rows, write_rollouts
from open_exaone.train.config import RlStage
from open_exaone.train.parallel.world import ALONE, World
from open_exaone.train.snapshot import Snapshot
from open_exaone.train.state import Memory, fingerprint_of
from open_exaone.verify.own import file_of, is_own
from open_exaone.verify.settings import JudgeSettings

JUDGE_S = 300.0  # for which a rank judges what it has sampled, while others wait; the first one judges the rest
Places = Callable[[int, int], list[int]]  # from a place in the endless row of prompts, so many: which problems


@dataclass(frozen=True)
class Collected:
    """What one step sampled."""

    groups: list[RolloutGroup]
    first: int  # the place of its first prompt in the endless row of prompts
    keys: tuple[str, ...]  # of its rounds
    waited_s: float  # for a judge model that was down
    wait_s: float = 0.0  # that the trainer waited for them, where they were drawn ahead
    ahead: Mapping[str, str] = field(default_factory=dict)  # coming step -> digest of the weights it is drawn from

    @property
    def memory(self) -> dict[str, Any]:
        """What the step after it, and a later update on these samples, must know."""
        ahead = {"ahead": dict(self.ahead)} if self.ahead else {}
        end = self.first + len(self.groups)
        return {"first_prompt": self.first, "next_prompt": end, "keys": list(self.keys), **ahead}


@dataclass
class _Rounds:
    """What a step has sampled so far."""

    path: Path  # of its rollouts
    step: int
    first: int  # the place of its first prompt
    known: Sequence[str]  # keys of the rounds that an earlier version of the model has made
    patience: Patience
    snapshot: Snapshot | None = None  # what is sampled from, where it is not the model as it is
    has_weights: bool = False  # whether the provider has the weights
    seen: Seen = field(default_factory=Counter)
    done: list[tuple[list[RolloutGroup], str]] = field(default_factory=list)  # groups, and a key of what made them

    @property
    def groups(self) -> list[RolloutGroup]:
        return [group for groups, _ in self.done for group in groups]

    @property
    def end(self) -> int:
        """The place of its next prompt."""
        return self.first + len(self.groups)


@dataclass(frozen=True)
class Collector:
    """Samples and judges a step's groups from the model as it is."""

    config: RlStage
    problems: Sequence[Problem]
    thinks_N: Sequence[bool] | NDArray[np.bool_]  # whether each problem is asked in reasoning mode
    provider: Provider
    folder: Path  # gets rollouts/step-N.jsonl
    seed: int
    model: LanguageModel  # that is trained: the provider samples from its weights
    places: Places
    teaches: Callable[[list[RolloutGroup]], list[bool]]  # which groups are learned from
    settings: JudgeSettings = field(default_factory=JudgeSettings)
    world: World = ALONE  # the ranks that share out the prompts; the first one writes

    @property
    def judging(self) -> Judging:
        return Judging(self.settings, weights_of(self.config.reward), self.config.rubric)

    def collect(self, step: int, memory: Memory, *, again: bool = False, snapshot: Snapshot | None = None) -> Collected:
        """Groups of `batch_prompts` prompts; with `max_prompts`, as many that teach, asking at most so many prompts.

        Args:
            step: of sampling, from 0.
            memory: `Collected.memory` of the step before or, with `again`, of this one.
            again: this step was sampled before, by an earlier version of the model.
            snapshot: sample from these weights; from the model as it is, if left out.

        Raises:
            DataError, EndpointError: see `judge_groups`.
        """
        first = memory.get("first_prompt" if again else "next_prompt", step * self.config.batch_prompts)
        path = self.folder / "rollouts" / f"step-{step + 1:06d}.jsonl"
        known = memory["keys"] if again else ()
        rounds = _Rounds(path, step, first, known, Patience(self.settings.endpoint), snapshot)
        most = self.config.max_prompts or self.config.batch_prompts
        number = self.config.batch_prompts
        while number > 0:
            self._round(rounds, number)
            number = most - len(rounds.groups)
            if number > 0:
                number = min(number, self.config.batch_prompts - sum(self.teaches(rounds.groups)))
        return Collected(rounds.groups, first, tuple(key for _, key in rounds.done), rounds.patience.waited_s)

    def _round(self, rounds: _Rounds, number: int) -> None:
        """Samples groups for so many prompts, or reads them back where this model, asked the same, made them."""
        tokenizer = self.provider.tokenizer
        assert tokenizer is not None  # it gives ids
        problems, thinking = self.asked(self.places(rounds.end, number))
        sampling = self.sampling(rounds.step)
        requests = requests_for(problems, tokenizer, sampling, thinking=thinking, seen=rounds.seen)
        found: list[RolloutGroup] | None = None
        own_key = functools.cache(lambda: self._key(problems, requests, rounds.step, rounds.snapshot))
        if self.model.sharing is not None:
            own_key()  # on all ranks, as each has a part of the weights

        def find() -> tuple[str, bool]:
            nonlocal found
            key, found = self._found(rounds, problems, requests, own_key)
            return key, found is not None

        key, is_found = self.world.lead(find)
        groups = found if is_found else self._sampled(problems, requests, rounds)

        def judge() -> None:
            nonlocal groups
            groups = self._judged(groups or [], found, rounds, key)

        self.world.lead(judge)
        if self.world.size > 1:
            rows = self.world.shared(rollout_rows(groups or []) if self.world.is_first else [])
            groups = groups if self.world.is_first else rollout_groups(rows, problems, requests, tokenizer)
        assert groups is not None
        rounds.done.append((groups, key))

    def _found(
        self, rounds: _Rounds, problems: list[Problem], requests: list[Request], own_key: Callable[[], str]
    ) -> tuple[str, list[RolloutGroup] | None]:
        """The key of a round, and its groups where they are on disk."""
        tokenizer = self.provider.tokenizer
        assert tokenizer is not None
        num_before = len(rounds.groups) * self.config.group_size
        if len(rounds.done) < len(rounds.known):
            key = rounds.known[len(rounds.done)]
            found = read_rollouts(rounds.path, problems, requests, tokenizer, key, first=num_before)
            if found is not None:
                return key, found
            logger.warning("%s: is incomplete: the rest of its step is trained on new samples", rounds.path)
        key = own_key()
        return key, read_rollouts(rounds.path, problems, requests, tokenizer, key, first=num_before)

    def _judged(
        self, groups: list[RolloutGroup], found: list[RolloutGroup] | None, rounds: _Rounds, key: str
    ) -> list[RolloutGroup]:
        """A round's groups, all of them judged and on disk.

        Args:
            found: what was on disk.
        """

        def save(groups: list[RolloutGroup]) -> None:
            write_rollouts(rounds.path, [*rounds.done, (groups, key)])

        judged = judge_groups(
            groups, self.judging, max_tokens=self.config.max_new_tokens, save=save, patience=rounds.patience
        )
        if judged != found:
            save(judged)
        return judged

    def asked(self, places: Sequence[int]) -> tuple[list[Problem], list[bool]]:
        """The problems of some places, and whether each is asked in reasoning mode."""
        return [self.problems[i] for i in places], [bool(self.thinks_N[i]) for i in places]

    def sampling(self, step: int) -> Sampling:
        """How a step's samples are drawn."""
        return Sampling(
            max_new_tokens=self.config.max_new_tokens,
            temperature=self.config.temperature,
            top_p=1.0,
            num_samples=self.config.group_size,
            seed=self.seed + step,
        )

    def _sampled(self, problems: list[Problem], requests: list[Request], rounds: _Rounds) -> list[RolloutGroup]:
        """Samples of the model as it is now.

        Raises:
            PromptTooLongError: a prompt leaves a reply less room than `max_new_tokens`.
            DataError: the provider has another vocabulary than the model.
        """
        config = self.model.config
        longest = max(len(request.prompt_ids or ()) for request in requests)
        if longest + self.config.max_new_tokens > config.max_positions:
            raise PromptTooLongError(
                f"a prompt has {longest} tokens; with max_new_tokens = {self.config.max_new_tokens} that exceeds the "
                f"model's context of {config.max_positions}: shorten the prompt or lower max_new_tokens"
            )
        is_local = self.provider.identity["engine"] == "local"
        if not rounds.has_weights and (is_local or self.world.is_first):
            snapshot = rounds.snapshot
            weights = plain_weights(self.model) if snapshot is None else snapshot.weights()
            self.provider.update_weights(weights, self.model.version if snapshot is None else snapshot.version)
        rounds.has_weights = True
        groups = self._shared_groups(problems, requests, is_local) if self.world.size > 1 else None
        groups = groups or sample_requests(problems, requests, self.provider)
        if any(max(r.generation.ids or (0,)) >= config.vocab_size for group in groups for r in group.rollouts):
            raise DataError(f"{self.provider.identity['engine']}: returned token ids outside the model's vocabulary")
        return groups

    def _shared_groups(self, problems: list[Problem], requests: list[Request], is_local: bool) -> list[RolloutGroup]:
        """Each rank samples every so manieth prompt, and judges what it has sampled as far as it can without waiting
        for the judge model; a server is asked by the first rank alone, which then judges too."""
        world, size, tokenizer = self.world, self.config.group_size, self.provider.tokenizer
        assert tokenizer is not None
        number = len(problems)
        asked = [range(rank, number, world.size) for rank in range(world.size)]
        if not is_local:
            asked = [range(number), *(range(0) for _ in asked[1:])]

        def sample() -> list[dict[str, Any]]:
            places = asked[world.rank]
            own = [request for place in places for request in requests[place * size : (place + 1) * size]]
            groups = sample_requests([problems[place] for place in places], own, self.provider)
            if is_local:
                limits: dict[str, Any] = {"max_tokens": self.config.max_new_tokens, "limit_s": JUDGE_S}
                groups = judge_some(groups, self.judging, **limits)
            return rollout_rows(groups)

        parts = world.gather(sample)
        rows: dict[int, list[dict[str, Any]]] = {}
        for places, part in zip(asked, parts, strict=True):
            rows |= {place: part[i * size : (i + 1) * size] for i, place in enumerate(places)}
        flat = [row for place in range(len(problems)) for row in rows[place]]
        return rollout_groups(flat, problems, requests, tokenizer)

    def _key(
        self, problems: list[Problem], requests: list[Request], step: int, snapshot: Snapshot | None = None
    ) -> str:
        """Of all that a round's rollouts follow from; where the judge model is, and its key, are no part of it."""
        own = [Path(file_of(name)).read_bytes().hex() for name in filter(is_own, self.judging.weights)]
        settings = self.settings.model_dump(mode="json", exclude=WITHOUT_ADDRESS)
        judging = (settings, own, [asdict(problem) for problem in problems])
        size = self.config.group_size
        prompts = [(request.prompt_ids, request.thinking) for request in requests[::size]]
        sampling = asdict(requests[0].sampling)
        asked = (step, prompts, sampling, fingerprint_of(self.config), judging)
        return buffer_key(self.model, asked) if snapshot is None else snapshot.key(asked)
