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
from open_exaone.engine.request import Group, Sample, Setting, in_groups, max_length, prompt_of, setting_of
from open_exaone.engine.sampling import Drawn, draw
from open_exaone.engine.scheduler import Scheduler
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
            per prompt, its completions in order of sample index.

        Raises:
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
        the answer follows. Such a reply stops with "budget" if it ends by itself, else with "length".

        Args:
            requests: neighbours with one prompt share its computation.
            on_step: as for `generate`; called when what the step finished has been given.

        Returns:
            (place in `requests`, completion), each as soon as its last token is there.

        Raises:
            PromptTooLongError, CheckpointError: as `generate`, before anything is generated.
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
        # Which tokens each slot's reply has so far, where that plays a part.
        self.has_BV: Tensor | None = None
        if any(request.sampling.presence_penalty for request in requests):
            shape = (num_slots, self.model.config.vocab_size)
            self.has_BV = torch.zeros(shape, dtype=torch.bool, device=self.model.device)
        self.has_budgets = any(request.sampling.thinking_budget is not None for request in requests)
        self.settings = {setting_of(request.sampling) for request in requests}
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
            if self.has_BV is not None:
                self.has_BV[slots] = False
            entered += [(slot, logits_V) for slot in slots]
            self.waiting[group] -= len(slots)
            if not self.waiting[group]:
                del self.prompts[group], self.waiting[group]
        return self._take([slot for slot, _ in entered], torch.stack([logits_V for _, logits_V in entered]))

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
            self.has_BV = None if self.has_BV is None else self.has_BV[kept]
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
        if self.has_BV is not None:
            self.has_BV[slots, drawn.ids_B] = True
        end_ids = self.engine.end_ids
        for slot, sample, token, logprob, sampling_logprob in zip(slots, samples, *_to_lists(drawn), strict=True):
            sample.append(token, logprob, sampling_logprob, end_ids)
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
        """Draws for each row by its own setting; all rows of one setting at once."""
        device = logits_BV.device
        uniforms_B = torch.tensor([sample.uniform for sample in samples], device=device)
        if len(self.settings) == 1:  # the usual case
            [setting] = self.settings
            return self._draw_alike(setting, slots, logits_BV, uniforms_B)
        rows_of: dict[Setting, list[int]] = {}
        for row, sample in enumerate(samples):
            rows_of.setdefault(setting_of(sample.request.sampling), []).append(row)
        parts = [
            self._draw_alike(setting, [slots[row] for row in rows], logits_BV[rows], uniforms_B[rows])
            for setting, rows in rows_of.items()
        ]
        order = torch.tensor([row for rows in rows_of.values() for row in rows], device=device).argsort()
        return Drawn(*(torch.cat(values)[order] for values in zip(*parts, strict=True)))

    def _draw_alike(self, setting: Setting, slots: list[int], logits_BV: Tensor, uniforms_B: Tensor) -> Drawn:
        temperature, top_p, penalty = setting
        taken_off_BV = penalty * self.has_BV[slots] if penalty and self.has_BV is not None else None
        return draw(logits_BV, temperature, top_p, uniforms_B, taken_off_BV)

    def _new_cache(self, rows: int, slots: int) -> Cache:
        return Cache(self.model.config, rows=rows, slots=slots, dtype=self.model.dtype, device=self.model.device)


def _force(samples: Sequence[Sample], logits_BV: Tensor, drawn: Drawn) -> None:
    """Puts the tokens that end a cut thought in the place of those that were drawn."""
    forced = [(row, token) for row, sample in enumerate(samples) if (token := sample.forced_id) is not None]
    if not forced:
        return
    rows_X, ids_X = torch.tensor(forced, device=logits_BV.device).T
    drawn.ids_B[rows_X] = ids_X
    drawn.logprobs_B[rows_X] = token_logprobs(logits_BV[rows_X], ids_X)
    drawn.sampling_logprobs_B[rows_X] = 0.0


def _to_lists(drawn: Drawn) -> tuple[list[int], list[float], list[float]]:
    return drawn.ids_B.tolist(), drawn.logprobs_B.tolist(), drawn.sampling_logprobs_B.tolist()
