"""The engine over several processes: of a model that one thread computes, each core samples a share of the requests."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import cached_property

from open_exaone.base.machine import num_cores
from open_exaone.base.records import Request
from open_exaone.engine.engine import Engine, Steps
from open_exaone.engine.request import in_groups
from open_exaone.engine.workers import Worker, borrowed, wait_for
from open_exaone.model.threads import is_ours_to_choose, threads_for

MIN_TOKENS = 16_384  # that a share may come to: fewer don't pay for a process that has to start
MAX_SHARES = 8  # a process takes 250 MB
MIN_REQUESTS = 16  # of a share: fewer are decoded together at nearly the price of more


class ShardedEngine(Engine):
    """An engine that shares requests out among processes, where that is worth it; else one like any other.

    The shares are a function of the requests and the number of cores alone, and each is computed as an engine computes
    it alone: the same requests give the same completions to the bit, whoever is fast. In float32 the tokens are those
    of one engine, and log-probabilities differ in the last bits; in bfloat16 tokens depend on what is decoded together,
    by rounding. Where the user has set the number of threads, with a GPU, LoRA or one core, and where other
    requests are being sampled already, this process does everything.
    """

    def _steps(self, requests: Sequence[Request]) -> Steps:
        shares = self._shares(requests)
        self.memory_share = 1 / len(shares)
        if len(shares) == 1:
            yield from super()._steps(requests)
            return
        with borrowed(len(shares) - 1) as workers:
            if not workers:  # another thread samples with them: one share after the other
                for share in shares:
                    yield from self._own(requests, share)
                return
            with ExitStack() as stack:
                for worker, share in zip(workers, shares[1:], strict=True):
                    stack.enter_context(worker.job(self, [requests[place] for place in share]))
                yield from self._together(requests, shares, workers)

    def _together(
        self, requests: Sequence[Request], shares: Sequence[Sequence[int]], workers: Sequence[Worker]
    ) -> Steps:
        """This process's share, step by step, and with each step what the others have finished; then the rest."""
        others = list(zip(workers, shares[1:], strict=True))
        with closing(self._own(requests, shares[0])) as steps:
            for num_tokens, done in steps:
                for worker, share in others:
                    more, found = worker.arrived()
                    num_tokens += more
                    done += [(share[place], completion) for place, completion in found]
                yield num_tokens, done
        while any(worker.is_at_work for worker in workers):
            wait_for(workers)
            for worker, share in others:
                num_tokens, found = worker.arrived()
                yield num_tokens, [(share[place], completion) for place, completion in found]

    def _own(self, requests: Sequence[Request], share: Sequence[int]) -> Steps:
        with closing(super()._steps([requests[place] for place in share])) as steps:
            for num_tokens, done in steps:
                yield num_tokens, [(share[place], completion) for place, completion in done]

    def _shares(self, requests: Sequence[Request]) -> list[list[int]]:
        return shares_of(requests, min(num_cores(), MAX_SHARES) if self._may_share else 1)

    @property
    def _may_share(self) -> bool:
        is_small = threads_for("sample", self.model.config.num_parameters, 2) == 1
        return is_small and self.model.device.type == "cpu" and self._is_whole and is_ours_to_choose()

    @cached_property
    def _is_whole(self) -> bool:
        """Whether the config alone says which weights there are: a worker builds its model from that."""
        return not any(".lora_" in name for name, _ in self.model.named_parameters())


def shares_of(requests: Sequence[Request], number: int) -> list[list[int]]:
    """Places in `requests` by share, at most `number`: groups of one prompt are dealt out in turn.

    One share has everything where more would each have less than MIN_TOKENS and MIN_REQUESTS.
    """
    num_tokens = sum(request.sampling.max_new_tokens for request in requests)
    number = max(1, min(number, num_tokens // MIN_TOKENS, len(requests) // MIN_REQUESTS))
    if number == 1:
        return [list(range(len(requests)))]
    groups = [[sample.place for sample in group.samples] for group in in_groups(requests)]
    shares = [[place for group in groups[start::number] for place in group] for start in range(number)]
    return [share for share in shares if share]
