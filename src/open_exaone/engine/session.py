"""Requests that come, run together and leave: the scheduler's decisions, carried out by a backend. No torch."""

from collections.abc import Callable, Sequence

from open_exaone.base.errors import PromptTooLongError
from open_exaone.base.records import Request
from open_exaone.engine.backend import Backend, Tokens
from open_exaone.engine.blocks import Blocks
from open_exaone.engine.request import Sample, in_groups, max_length, prompt_of
from open_exaone.engine.scheduler import Scheduler
from open_exaone.engine.stop import StopStrings
from open_exaone.engine.thought import Thoughts
from open_exaone.text.tokenizer import Tokenizer


class Session:
    """Samples that decode together. Others may join and leave between two steps; close it at the end.

    Args:
        sizes: blocks of the global and of the local layers.
        num_steps: the most tokens that a step draws for each sample; None: as many as the backend draws at once.
        first_steps: the same of a step that draws some sample's first token; None: no other number.
        check: raises where a request cannot be completed, whatever memory there is.
        on_close: gets the backend when it is free for another session.
    """

    def __init__(
        self,
        backend: Backend,
        sizes: Sequence[int],
        *,
        window: int | None,
        num_slots: int,
        tokenizer: Tokenizer,
        end_ids: frozenset[int],
        thoughts: Callable[[], Thoughts],
        num_steps: int | None = None,
        first_steps: int | None = None,
        check: Callable[[Sequence[Request]], object] = lambda requests: None,
        on_close: Callable[[Backend], object] = lambda backend: None,
    ) -> None:
        self._backend, self._tokenizer, self._end_ids, self._thoughts = backend, tokenizer, end_ids, thoughts
        self._check, self._on_close, self._is_closed = check, on_close, False
        self._most_steps, self._first_steps = num_steps, first_steps
        self._steps = 1  # of the call that comes
        backend.refresh()
        backend.make_pools(sizes)
        self.scheduler = Scheduler(Blocks(sizes, window), num_slots, backend.copy_block)

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing waits."""
        return self.scheduler.finished

    def submit(self, requests: Sequence[Request]) -> list[Sample]:
        """Puts requests at the end of the queue; neighbours with one prompt share its computation.

        Raises:
            ValueError, PromptTooLongError, CheckpointError: as `Engine.check`, or the memory taken does not hold one of
                them, or the session is closed; then none is in the queue.
        """
        if self._is_closed:
            raise ValueError("this session is closed: open another one")
        self._check(requests)
        longest = max(requests, key=max_length, default=None)
        if longest is not None and not self.holds(max_length(longest)):
            raise PromptTooLongError(
                f"a prompt of {len(prompt_of(longest))} tokens with max_new_tokens = "
                f"{longest.sampling.max_new_tokens} exceeds what this session was opened for: shorten the prompt, "
                "lower max_new_tokens, or open the session with greater lengths"
            )
        groups = in_groups(requests)
        self.scheduler.submit(groups)
        return [sample for group in groups for sample in group.samples]

    def cancel(self, sample: Sample) -> None:
        """Takes a sample out, whether it runs or waits; one that is done stays as it is."""
        if sample.stop is None:
            self.scheduler.cancel(sample)
            self._backend.forget(sample)

    def end_thought(self, sample: Sample) -> bool:
        """Ends a sample's thought where it stands: what closes it is forced next, and the answer follows.

        Returns:
            whether a thought was open.
        """
        is_over = sample.stop is not None or bool(sample.closing_ids)
        if is_over or not self._is_in_thought(sample):
            return False
        sample.thinking_budget = len(sample.ids)
        sample.closing_ids = self._thoughts().closing_ids(sample.ids)
        return True

    def _is_in_thought(self, sample: Sample) -> bool:
        return self._thoughts().is_open(prompt_of(sample.request), sample.ids, sample.request.num_begun)

    def holds(self, length: int) -> bool:
        """Whether the memory taken holds one sequence of so many tokens."""
        blocks = self.scheduler.blocks
        return all(num <= pool.size for pool, num in zip(blocks.used, blocks.needed(length), strict=True))

    def refresh(self) -> None:
        """Goes on with the model's weights as they are now; remembered prompts are forgotten."""
        if self._backend.refresh():
            self.scheduler.blocks.forget_all()

    def step(self) -> tuple[int, list[Sample]]:
        """Reads prompts that are due, and draws tokens for all that run.

        Returns:
            how many tokens were drawn, and the samples that are done with them.
        """
        if chunks := self.scheduler.chunks():
            self._backend.prefill(chunks)
            self.scheduler.read(chunks)
        entered = self.scheduler.enter()
        for sample in entered:
            if sample.stop_strings is None and sample.request.sampling.stop:
                sample.stop_strings = StopStrings(self._tokenizer, sample.request.sampling.stop)
        most = self._backend.most_steps(max(1, len(self.scheduler.running)))
        self._steps = min(most, self._most_steps or most, (self._first_steps if entered else None) or most)
        if any(sample.constraint is not None for sample in self.scheduler.running):
            self._steps = 1  # each token decides what may come next
        self.scheduler.grow(self._num_steps)
        samples = list(self.scheduler.running)
        if not samples:
            return 0, []
        num_tokens, done = 0, []
        drawn = self._backend.decode(samples, [self._num_steps(sample) for sample in samples])
        for sample, tokens in zip(samples, drawn, strict=True):
            before = len(sample.ids)
            self._take(sample, tokens)
            num_tokens += len(sample.ids) - before
            if sample.stop is not None:
                self.scheduler.release(sample)
                self._backend.forget(sample)
                done.append(sample)
        return num_tokens, done

    def close(self) -> None:
        """Drops all that still runs or waits, and frees the memory; the second time it does nothing."""
        if self._is_closed:
            return
        self._is_closed = True
        self.scheduler.release_all()
        self._backend.make_pools((0, 0))
        self._on_close(self._backend)

    def _num_steps(self, sample: Sample) -> int:
        """Tokens that are drawn before anything has to be decided about a sample."""
        num = min(self._steps, sample.max_new_tokens - len(sample.ids))
        budget = sample.thinking_budget
        return min(num, budget - len(sample.ids)) if budget is not None and len(sample.ids) < budget else num

    def _take(self, sample: Sample, tokens: Tokens) -> None:
        assert sample.table is not None
        sample.was_cut |= tokens.was_cut
        num = len(tokens.ids_T)
        sample.extend(tokens.ids_T, tokens.logprobs_T[:num], tokens.sampling_logprobs_T[:num], self._end_ids)
        if tokens.top_logprobs_T:
            sample.top_logprobs += tokens.top_logprobs_T[: len(sample.ids) - len(sample.top_logprobs)]
        if sample.constraint is not None and tokens.ids_T:
            sample.constraint.take(tokens.ids_T)
        if sample.stop is not None:
            return
        sample.table.length += num
        sample.table.trim()
        if not tokens.is_valid:
            sample.fail()
        elif sample.is_at_budget and self._is_in_thought(sample):
            sample.closing_ids = self._thoughts().closing_ids(sample.ids)
