"""Continuous batching: every step moves each running sample on by one token."""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from open_exaone.base.errors import CheckpointError, PromptTooLongError
from open_exaone.base.records import Completion, Request, Sampling
from open_exaone.engine.memory import free_bytes, slots_that_fit
from open_exaone.engine.request import Group, Sample, check_ids, in_groups, max_length, prompt_of
from open_exaone.engine.sampling import Drawn, Settings, TokenCounts, draw, needs_counts
from open_exaone.engine.scheduler import Scheduler
from open_exaone.engine.stop import StopStrings
from open_exaone.engine.thought import Thoughts
from open_exaone.model.cache import Cache
from open_exaone.model.logprobs import token_logprobs
from open_exaone.model.threads import computing
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer

OnStep = Callable[[int, int], None]  # how many tokens a step made, how many completions it finished; may raise to stop
Completions = Generator[tuple[int, Completion], None, None]
Steps = Generator[tuple[int, list[tuple[int, Completion]]], None, None]  # tokens that a step made, what it finished


class Engine:
    """Generates with one model. Nothing is kept between calls, so new weights need no notice."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, *, num_slots: int | None = 128) -> None:
        """Args:
        tokenizer: says which tokens end a completion, and what ends a thought.
        num_slots: the most samples that decode together; None: what memory holds, at most 128.

        Raises:
            CheckpointError: the tokenizer has more ids than the model, or names no token that ends a completion.
        """
        if tokenizer.vocab_size > model.config.vocab_size:
            raise CheckpointError(
                f"the tokenizer has {tokenizer.vocab_size} ids and the model {model.config.vocab_size}: "
                f"they do not belong together"
            )
        self.model = model
        self.tokenizer = tokenizer
        self.end_ids = frozenset(tokenizer.end_ids)
        self.num_slots = num_slots
        self.memory_share = 1.0  # of what is free, where `num_slots` is None

    @cached_property
    def thoughts(self) -> Thoughts:
        """Where thoughts end. Found out when a budget first asks.

        Raises:
            CheckpointError: the tokenizer's folder has no chat format, or a broken one.
        """
        return Thoughts(self.tokenizer)

    def generate(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, on_step: OnStep | None = None
    ) -> list[list[Completion]]:
        """Completes every prompt `sampling.num_samples` times; each is another random stream, also of equal prompts.

        Args:
            prompts: token ids, each with at least one token.
            on_step: called after each step with how many tokens it made and how many completions it finished; may
                raise to stop.

        Returns:
            per prompt, its completions in order of sample index. One whose logits are no numbers stops with "error" and
            says so in `error`; the others are what they are without it.

        Raises:
            ValueError: a prompt is empty, or has an id that the model does not have.
            PromptTooLongError: a prompt and `max_new_tokens` exceed the model's context.
            CheckpointError: there is a thinking budget, and the model has no chat format.
        """
        seen: Counter[tuple[int, ...]] = Counter()
        firsts = []
        for prompt in map(tuple, prompts):
            firsts.append(Request((), prompt, False, sampling, occurrence=seen[prompt]))
            seen[prompt] += 1
        self._check(firsts, "prompt")
        requests = [replace(first, index=index) for first in firsts for index in range(sampling.num_samples)]
        completions = dict(self._stream(requests, on_step))
        rest = iter([completions[place] for place in range(len(requests))])
        return [[next(rest) for _ in range(sampling.num_samples)] for _ in prompts]

    def stream(self, requests: Sequence[Request], on_step: OnStep | None = None) -> Completions:
        """Completes every request, each with a sampling of its own; closing the iterator stops and frees all.

        What a request gives depends on the model, its prompt, its sampling and its index alone. Under a thinking budget
        of B tokens the first B are those of the same request without one. Where its thought is still open then, its end
        is forced: the format's tag and newlines, with a sampling log-probability of 0, count among the reply's tokens;
        the answer follows. A reply in which they took the place of others stops with "budget" if it ends by itself.

        Args:
            requests: neighbours with one prompt share its computation.
            on_step: as for `generate`; called when what the step finished has been given.

        Returns:
            (place in `requests`, completion), each as soon as its last token is there.

        Raises:
            ValueError, PromptTooLongError, CheckpointError: as `generate`, before anything is generated.
        """
        self._check(requests, "request")
        return self._stream(requests, on_step)

    def _stream(self, requests: Sequence[Request], on_step: OnStep | None) -> Completions:
        with closing(self._steps(requests)) as steps:
            for num_tokens, done in steps:
                yield from done
                if on_step:
                    on_step(num_tokens, len(done))

    def _steps(self, requests: Sequence[Request]) -> Steps:
        """Step by step: how many tokens it made, and (place in `requests`, completion) of what it finished."""
        self.model.eval()
        run = _Run(self, requests)
        while not run.scheduler.finished:
            with torch.inference_mode(), computing(self.model, "sample"):
                num_tokens = run.step()
            done, run.done = run.done, []
            yield num_tokens, [(sample.place, sample.completion(self.model.version)) for sample in done]

    def _check(self, requests: Sequence[Request], what: str) -> None:
        context = self.model.config.max_positions
        for place, request in enumerate(requests):
            if not request.prompt_ids:
                raise ValueError(f"{what} {place} is empty: give it at least one token")
            if max_length(request) > context:
                raise PromptTooLongError(
                    f"{what} {place} has {len(request.prompt_ids)} tokens; with max_new_tokens = "
                    f"{request.sampling.max_new_tokens} that exceeds the model's context of {context}: "
                    f"shorten the prompt or lower max_new_tokens"
                )
        check_ids(requests, self.model.config.vocab_size, what)
        if any(request.sampling.thinking_budget is not None for request in requests):
            _ = self.thoughts  # a model without a chat format is refused now


class _Run:
    """One call of `stream`: the scheduler's slots as rows of one cache."""

    def __init__(self, engine: Engine, requests: Sequence[Request]) -> None:
        self.model, self.engine = engine.model, engine
        longest = max(map(max_length, requests), default=0)
        num_slots = min(self._num_slots(requests, longest), len(requests))
        self.scheduler = Scheduler(in_groups(requests), num_slots)
        self.cache = self._new_cache(num_slots, longest)
        # A started prompt's keys and values, and its first logits, until the last of its samples has entered.
        self.prompts: dict[Group, tuple[Cache, int, Tensor]] = {}
        self.waiting: dict[Group, int] = {}
        self.counts: TokenCounts | None = None
        if any(needs_counts(request.sampling) for request in requests):
            self.counts = TokenCounts(num_slots, self.model.config.vocab_size, self.model.device)
        self.has_budgets = any(request.sampling.thinking_budget is not None for request in requests)
        # Where all are drawn alike, as is usual, the settings are made once.
        alike = {request.sampling.draw_key: request.sampling for request in requests}
        self.settings = self._settings(list(alike.values())) if len(alike) == 1 else None
        self.done: list[Sample] = []

    def _num_slots(self, requests: Sequence[Request], longest: int) -> int:
        if self.engine.num_slots is not None:
            return self.engine.num_slots
        return slots_that_fit(
            self.model.config,
            longest_prompt=max((len(prompt_of(request)) for request in requests), default=0),
            max_length=longest,
            bytes_per_value=self.model.dtype.itemsize,
            free_bytes=int(self.engine.memory_share * free_bytes(self.model.device)),
        )

    def step(self) -> int:
        """Lets new samples in, moves all on by a token, puts the finished into `done`; returns how many it drew."""
        num_tokens = self._admit() if self._should_admit() else 0
        return num_tokens + self._decode_step()

    def _should_admit(self) -> bool:
        """Prompts are worth a batch of their own once an eighth of the slots is free."""
        free = len(self.scheduler.free_slots)
        return self.scheduler.has_waiting and (free * 8 >= len(self.scheduler.slots) or not self.scheduler.running)

    def _admit(self) -> int:
        self._compute_prompts(self.scheduler.start_groups())
        entered: list[tuple[int, Tensor]] = []
        for group, slots in self.scheduler.admit():
            cache, row, logits_V = self.prompts[group]
            self.cache.copy_row(cache, row, torch.tensor(slots, device=self.model.device))
            for slot in slots:
                self._enter(slot)
            entered += [(slot, logits_V) for slot in slots]
            self.waiting[group] -= len(slots)
            if not self.waiting[group]:
                del self.prompts[group], self.waiting[group]
        return self._take([slot for slot, _ in entered], torch.stack([logits_V for _, logits_V in entered]))

    def _enter(self, slot: int) -> None:
        """Makes ready what else a new sample's slot needs."""
        sample = self.scheduler.slots[slot]
        assert sample is not None
        if sample.request.sampling.stop:
            sample.stop_strings = StopStrings(self.engine.tokenizer, sample.request.sampling.stop)
        if self.counts is not None:
            self.counts.enter(slot, prompt_of(sample.request))

    def _compute_prompts(self, groups: list[Group]) -> None:
        """Reads new prompts as one right-padded batch."""
        if not groups:
            return
        longest = max(len(group.prompt_ids) for group in groups)
        ids_BT = torch.zeros(len(groups), longest, dtype=torch.long)
        positions_BT = torch.full((len(groups), longest), -1)
        for row, group in enumerate(groups):
            length = len(group.prompt_ids)
            ids_BT[row, :length] = torch.tensor(group.prompt_ids)
            positions_BT[row, :length] = torch.arange(length)
        device = self.model.device
        cache = self._new_cache(len(groups), longest)
        x_BTD = self.model.model(ids_BT.to(device), positions_BT.to(device), cache=cache)
        last_B = positions_BT.argmax(dim=1)
        logits_BV = self.model.head(x_BTD[torch.arange(len(groups)), last_B.to(device)])
        for row, group in enumerate(groups):
            self.prompts[group] = (cache, row, logits_BV[row])
            self.waiting[group] = len(group.samples)

    def _decode_step(self) -> int:
        if not self.scheduler.running:
            return 0
        if not self.scheduler.has_waiting and 2 * len(self.scheduler.running) <= len(self.scheduler.slots):
            kept = torch.tensor(self.scheduler.compact(), device=self.model.device)
            self.cache.keep_rows(kept)
            if self.counts is not None:
                self.counts.keep_rows(kept)
        ids_B1 = torch.zeros(len(self.scheduler.slots), 1, dtype=torch.long)
        positions_B1 = torch.full((len(self.scheduler.slots), 1), -1)
        running = self.scheduler.running
        for slot, sample in running:
            ids_B1[slot, 0] = sample.ids[-1]
            positions_B1[slot, 0] = sample.position
        device = self.model.device
        logits_B1V = self.model(ids_B1.to(device), positions_B1.to(device), cache=self.cache)
        slots = [slot for slot, _ in running]
        return self._take(slots, logits_B1V[torch.tensor(slots, device=device), 0])

    def _take(self, slots: list[int], logits_BV: Tensor) -> int:
        """Draws the next token of each slot's sample and frees the slots that finish; returns how many it drew."""
        samples = [sample for slot in slots if (sample := self.scheduler.slots[slot])]
        drawn = self._draw(slots, samples, logits_BV)
        if self.has_budgets:
            _force(samples, logits_BV, drawn)
        if self.counts is not None:
            self.counts.add(slots, drawn.ids_B)
        end_ids = self.engine.end_ids
        for slot, sample, *token, is_valid in zip(slots, samples, *(part.tolist() for part in drawn), strict=True):
            if is_valid:
                sample.append(*token, end_ids)
            else:
                sample.fail()
                self.cache.clear_row(slot)
            if sample.stop is not None:
                self.scheduler.release(slot)
                self.done.append(sample)
            elif self.has_budgets and sample.is_at_budget:
                self._cut(sample)
        return len(slots)

    def _cut(self, sample: Sample) -> None:
        """Has the thought's end forced, where it is still open."""
        thoughts = self.engine.thoughts
        if thoughts.is_open(prompt_of(sample.request), sample.ids):
            sample.closing_ids = thoughts.closing_ids(sample.ids)

    def _draw(self, slots: list[int], samples: list[Sample], logits_BV: Tensor) -> Drawn:
        """Draws for each row by its own settings and number."""
        uniforms_B = torch.tensor([sample.uniform for sample in samples], device=logits_BV.device)
        settings = self.settings or self._settings([sample.request.sampling for sample in samples])
        return draw(logits_BV, settings, uniforms_B, self.counts.of(slots) if self.counts else None)

    def _settings(self, samplings: Sequence[Sampling]) -> Settings:
        return Settings.of(samplings, self.model.config.vocab_size, self.model.device)

    def _new_cache(self, rows: int, slots: int) -> Cache:
        return Cache(self.model.config, rows=rows, slots=slots, dtype=self.model.dtype, device=self.model.device)


def _force(samples: Sequence[Sample], logits_BV: Tensor, drawn: Drawn) -> None:
    """Puts the tokens that end a cut thought in the place of those that were drawn."""
    forced = [(row, token) for row, sample in enumerate(samples) if (token := sample.forced_id) is not None]
    if not forced:
        return
    rows_X, ids_X = torch.tensor(forced, device=logits_BV.device).T
    for row in rows_X[drawn.ids_B[rows_X] != ids_X].tolist():
        samples[row].was_cut = True
    drawn.ids_B[rows_X] = ids_X
    drawn.logprobs_B[rows_X] = token_logprobs(logits_BV[rows_X], ids_X)
    drawn.sampling_logprobs_B[rows_X] = 0.0
