"""Ranks that exchange what a stage needs, over torch.distributed: gloo between CPUs, NCCL between GPUs."""

import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore, Store

from open_exaone.base import interrupt
from open_exaone.base.errors import OpenExaoneError, RankError
from open_exaone.rollout.team import OnRow, Row, Serve
from open_exaone.train.parallel.jobs import JobOver, SharedJob, TakenJob
from open_exaone.train.parallel.world import Notes, Result, Values, World

BUCKET = 2**24  # values that are summed in one call
_LOST = re.compile(r"gloo|[Cc]onnection (closed|reset|refused)|Socket|NCCL|[Tt]imed out")  # in what torch raises
POLL_S = 0.1  # how long a rank that waits for the first one may not notice what that says


class Ranks(World):
    """One of several ranks. What goes between them is JSON and numbers: nothing that runs code.

    Once something has failed on one rank it fails on all: what they ask of each other after that raises at once.
    """

    def __init__(self, rank: int, size: int, store: Store, timeout_s: float) -> None:
        """Args:
        store: shared by all ranks, with nothing in it but what this makes.
        timeout_s: how long a rank waits for another in one exchange; `lead` waits as long as the first rank is there.
        """
        self.rank, self.size = rank, size
        self._store, self.timeout_s = store, timeout_s
        self._num_notes = 0
        self._num_leads = self._num_jobs = 0  # jobs: of the last lead
        self._failure: BaseException | None = None

    def gather(self, act: Callable[[], Result]) -> list[Result]:
        self._go_on()
        found, error = _tried(act)
        if error is not None and self.is_in_pass:  # the others wait within the model, not here
            self._failure = self._failure or error
            self._go_on()
        rows = self._exchanged(found)
        for rank, row in enumerate(rows):
            self._note(rank, row, error if rank == self.rank else None)
        self._go_on()
        return [row["value"] for row in rows]

    def lead(self, act: Callable[[], Result], serve: Serve | None = None) -> Result:
        self._go_on()
        self._num_leads, self._num_jobs = self._num_leads + 1, 0
        if self.is_first:
            found, error = _tried(act)
            with self._reached():
                self._store.set(self._message(self._num_jobs), json.dumps({"found": found}))
        else:
            found, error = self._served(serve), None
        self._note(0, found, error)
        self._go_on()
        return found["value"]

    def first(self, act: Callable[[], Result], serve: Serve | None = None) -> Result:
        results: list[Result] = []
        self.lead(lambda: results.append(act()), serve)
        return results[0] if results else act()

    def share(self, head: Row, chunks: Sequence[Row], on_row: OnRow) -> SharedJob:
        assert self.is_first
        store = PrefixStore(f"job/{self._num_leads}/{self._num_jobs}", self._store)
        job = SharedJob(store, self.size, chunks, on_row, self.timeout_s, self._reached)
        with self._reached():
            self._store.set(self._message(self._num_jobs), json.dumps({"job": head, "num_chunks": len(chunks)}))
        self._num_jobs += 1
        return job

    def _message(self, number: int) -> str:
        """The key of what the first rank says while it leads: its jobs, and at last what it has found."""
        return f"lead/{self._num_leads}/{number}"

    def _served(self, serve: Serve | None) -> dict[str, Any]:
        """Does this rank's part of the first one's jobs: the row of what that has found."""
        while (found := self._served_one(serve)) is None:
            self._num_jobs += 1
        return found

    def _served_one(self, serve: Serve | None) -> dict[str, Any] | None:
        """The next of what the first rank says: None behind a job."""
        number = self._num_jobs
        store = PrefixStore(f"job/{self._num_leads}/{number}", self._store)
        job = TakenJob(store, self.rank, self._reached, lambda: self._is_there(self._message(number + 1)))
        heard, error = _tried(lambda: json.loads(self._waited_for(self._message(number))))
        if error is not None:
            self._end(job, heard, error)
        message: dict[str, Any] = heard["value"]
        if "found" in message:
            found: dict[str, Any] = message["found"]
            return found
        assert serve is not None  # whoever shares out has it served
        job.begin(message["job"], message["num_chunks"])
        with job.alive(), suppress(JobOver):
            self._end(job, *_tried(lambda: serve(job)))
        return None

    def _end(self, job: TakenJob, end: Row, error: BaseException | None) -> None:
        """Has the first rank know what has become of this one's share."""
        if not isinstance(self._failure, RankError):  # then it cannot be reached
            job.end(end)
        self._failure = self._failure or error
        self._go_on()

    def _is_there(self, key: str) -> bool:
        with self._reached():
            return bool(self._store.check([key]))

    def shared(self, value: Result) -> Result:
        self._go_on()
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        length = torch.tensor([len(own)])
        with self._reached():
            dist.broadcast(length, 0)
            text = own if self.is_first else own.new_empty(int(length))
            dist.broadcast(text, 0)
        return value if self.is_first else json.loads(text.numpy().tobytes())

    def any(self, value: bool) -> bool:
        flag = torch.tensor([int(value)])
        self._go_on()
        with self._reached():
            dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def total(self, values: Values) -> Values:
        summed = torch.from_numpy(values.copy())
        self._go_on()
        with self._reached():
            dist.all_reduce(summed)
        return summed.numpy()  # type: ignore[return-value]

    @torch.no_grad()
    def add_up(self, tensors: Sequence[Tensor]) -> None:
        self._go_on()
        with self._reached():
            for bucket in _buckets(tensors):
                if len(bucket) == 1 and bucket[0].dtype == torch.float32 and bucket[0].is_contiguous():
                    dist.all_reduce(bucket[0])
                    continue
                flat = torch.cat([tensor.flatten().float() for tensor in bucket])
                dist.all_reduce(flat)
                parts = torch.split(flat, [tensor.numel() for tensor in bucket])
                for tensor, part in zip(bucket, parts, strict=True):
                    tensor.copy_(part.view(tensor.shape))

    def broadcast(self, tensor: Tensor, source: int) -> None:
        self._go_on()
        with self._reached():
            dist.broadcast(tensor, source)

    def notes(self) -> Notes:
        self._num_notes += 1
        return StoreNotes(self.rank, self.size, PrefixStore(f"notes/{self._num_notes}", self._store))

    @contextmanager
    def watched(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if isinstance(error, dist.DistError) or _LOST.search(str(error)):
                raise self._lost(error) from error
            raise

    def close(self) -> None:
        self.gather(lambda: None)  # what the first rank answers for is read by all
        dist.destroy_process_group()

    def _exchanged(self, row: dict[str, Any]) -> list[dict[str, Any]]:
        """Each rank's row."""
        own = torch.frombuffer(bytearray(json.dumps(row).encode()), dtype=torch.uint8)
        with self._reached():
            lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
            dist.all_gather(lengths, torch.tensor([len(own)]))
            padded = own.new_zeros(max(map(int, lengths)))
            padded[: len(own)] = own
            texts = [torch.empty_like(padded) for _ in range(self.size)]
            dist.all_gather(texts, padded)
        return [json.loads(text[: int(length)].numpy().tobytes()) for text, length in zip(texts, lengths, strict=True)]

    def _waited_for(self, key: str) -> bytes:
        """What the first rank has put there, once it has; looked for more seldom, the longer it takes."""
        pause_s = POLL_S / 1000
        while not self._is_there(key):
            interrupt.check()
            time.sleep(pause_s)
            pause_s = min(POLL_S, 1.5 * pause_s)
        with self._reached():
            return self._store.get(key)

    def _note(self, rank: int, row: dict[str, Any], error: BaseException | None) -> None:
        """Keeps why a rank failed, where one did: its own error comes before another rank's."""
        if error is not None:
            self._failure = error
        elif row["interrupted"] and self._failure is None:
            self._failure = interrupt.Interrupted()
        elif row["error"] is not None and self._failure is None:
            self._failure = RankError(f"rank {rank}: {row['error']}")

    def _go_on(self) -> None:
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def _reached(self) -> Iterator[None]:
        """Raises:
        RankError: the others cannot be reached any more.
        """
        try:
            yield
        except RuntimeError as error:  # what torch.distributed raises
            raise self._lost(error) from error

    def _lost(self, error: RuntimeError) -> RankError:
        why = str(error).strip().partition("\n")[0][:300]
        failure = RankError(
            f"rank {self.rank} cannot reach the other ranks: one of them has exited, or did not respond within "
            f"parallel.step_timeout_s = {self.timeout_s:g} seconds ({why})"
        )
        self._failure = failure
        return failure


class StoreNotes(Notes):
    """Notes in the store that the ranks share."""

    def __init__(self, rank: int, size: int, store: Store) -> None:
        self.rank, self.size, self._store = rank, size, store

    def put(self, note: dict[str, Any]) -> None:
        with _answered():
            self._store.set(str(self.rank), json.dumps(note))

    def get(self, rank: int) -> dict[str, Any] | None:
        key = str(rank)
        with _answered():
            found: dict[str, Any] | None = json.loads(self._store.get(key)) if self._store.check([key]) else None
        return found


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RankError(
            f"rank 0 cannot be reached any more ({str(error).strip().partition(chr(10))[0][:200]})"
        ) from error


def _tried(act: Callable[[], Any]) -> tuple[dict[str, Any], BaseException | None]:
    """What a rank tells the others: what it got, or why it failed; and the error itself."""
    try:
        return {"value": act(), "error": None, "interrupted": False}, None
    except interrupt.Interrupted as error:
        return {"value": None, "error": None, "interrupted": True}, error
    except OpenExaoneError as error:
        return {"value": None, "error": str(error), "interrupted": False}, error


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """In their order, of at most BUCKET values, or one tensor."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(one.numel() for one in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket
