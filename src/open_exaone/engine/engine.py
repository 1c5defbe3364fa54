"""Continuous batching: every step moves each running sample on by one token."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from open_exaone.base.errors import CheckpointError, PromptTooLongError
from open_exaone.base.records import Completion, Sampling
from open_exaone.engine.request import Group
from open_exaone.engine.sampling import Drawn, draw
from open_exaone.engine.scheduler import Scheduler
from open_exaone.model.cache import Cache
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer


class Engine:
    """Generates with one model. Nothing is kept between calls, so new weights need no notice."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, *, num_slots: int = 128) -> None:
        """Args:
        tokenizer: says which tokens end a completion.
        num_slots: the most samples that decode together.

        Raises:
            CheckpointError: the tokenizer has more ids than the model, or names no token that ends a completion.
        """
        if tokenizer.vocab_size > model.config.vocab_size:
            raise CheckpointError(
                f"the tokenizer has {tokenizer.vocab_size} ids and the model {model.config.vocab_size}: "
                f"they do not belong together"
            )
        self.model = model
        self.end_ids = frozenset(tokenizer.end_ids)
        self.num_slots = num_slots

    @torch.inference_mode()
    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        on_step: Callable[[int, int], None] | None = None,
    ) -> list[list[Completion]]:
        """Completes every prompt `sampling.num_samples` times.

        Args:
            prompts: token ids, each with at least one token.
            on_step: called after each step with how many tokens it made and how many completions it finished; may
                raise to stop.

        Returns:
            per prompt, its completions in order of sample index.

        Raises:
            PromptTooLongError: a prompt and `max_new_tokens` exceed the model's context.
        """
        self._check(prompts, sampling)
        groups = [Group.make(index, prompt, sampling) for index, prompt in enumerate(prompts)]
        self.model.eval()
        _Run(self, groups, sampling).decode_all(on_step)
        return [[sample.completion(self.model.version) for sample in group.samples] for group in groups]

    def _check(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> None:
        context = self.model.config.max_positions
        for index, prompt in enumerate(prompts):
            if not prompt:
                raise ValueError(f"prompt {index} is empty: give it at least one token")
            if len(prompt) + sampling.max_new_tokens > context:
                raise PromptTooLongError(
                    f"prompt {index} has {len(prompt)} tokens; with max_new_tokens = {sampling.max_new_tokens} that "
                    f"exceeds the model's context of {context}: shorten the prompt or lower max_new_tokens"
                )


class _Run:
    """One call of `generate`: the scheduler's slots as rows of one cache."""

    def __init__(self, engine: Engine, groups: list[Group], sampling: Sampling) -> None:
        total = sum(len(group.samples) for group in groups)
        self.model, self.end_ids, self.sampling = engine.model, engine.end_ids, sampling
        self.scheduler = Scheduler(groups, min(engine.num_slots, total))
        self.max_slots = max((len(group.prompt_ids) for group in groups), default=0) + sampling.max_new_tokens
        self.cache = self._new_cache(len(self.scheduler.slots), self.max_slots)
        # A started prompt's keys and values, and its first logits, until the last of its samples has entered.
        self.prompts: dict[Group, tuple[Cache, int, Tensor]] = {}
        self.waiting: dict[Group, int] = {}
        self.num_done = 0

    def decode_all(self, on_step: Callable[[int, int], None] | None) -> None:
        while not self.scheduler.finished:
            num_done = self.num_done
            num_tokens = self._admit() if self._should_admit() else 0
            num_tokens += self._decode_step()
            if on_step:
                on_step(num_tokens, self.num_done - num_done)

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
            self.cache.keep_rows(torch.tensor(self.scheduler.compact(), device=self.model.device))
        ids_B1 = torch.zeros(len(self.scheduler.slots), 1, dtype=torch.long)
        positions_B1 = torch.full((len(self.scheduler.slots), 1), -1)
        running = self.scheduler.running
        for slot, sample in running:
            ids_B1[slot, 0] = sample.ids[-1]
            positions_B1[slot, 0] = sample.prompt_length + len(sample.ids) - 1
        device = self.model.device
        logits_B1V = self.model(ids_B1.to(device), positions_B1.to(device), cache=self.cache)
        slots = [slot for slot, _ in running]
        return self._take(slots, logits_B1V[torch.tensor(slots, device=device), 0])

    def _take(self, slots: list[int], logits_BV: Tensor) -> int:
        """Draws the next token of each slot's sample and frees the slots that finish; returns how many it drew."""
        samples = [self.scheduler.slots[slot] for slot in slots]
        uniforms = [float(sample.uniforms_T[len(sample.ids)]) for sample in samples if sample]
        drawn = draw(
            logits_BV, self.sampling.temperature, self.sampling.top_p, torch.tensor(uniforms, device=logits_BV.device)
        )
        for slot, sample, token, logprob, sampling_logprob in zip(slots, samples, *_to_lists(drawn), strict=True):
            assert sample is not None
            sample.append(token, logprob, sampling_logprob, self.end_ids)
            if sample.stop is not None:
                self.scheduler.release(slot)
                self.num_done += 1
        return len(slots)

    def _new_cache(self, rows: int, slots: int) -> Cache:
        return Cache(self.model.config, rows=rows, slots=slots, dtype=self.model.dtype, device=self.model.device)


def _to_lists(drawn: Drawn) -> tuple[list[int], list[float], list[float]]:
    return drawn.ids_B.tolist(), drawn.logprobs_B.tolist(), drawn.sampling_logprobs_B.tolist()
