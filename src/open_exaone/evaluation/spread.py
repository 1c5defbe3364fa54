"""An evaluation's samples, shared out among ranks: each draws and judges what it claims, the first one keeps all.

What a sample is depends on its prompt, seed and index alone, so that it does not matter who draws it. The first rank
sends prompts with their problems; a rank answers with the lines that an evaluation's journal has: each sample as soon
as it is there, and its verdict as soon as that is. What a rank cannot judge is left to the first one: where the judge
model is down, and where a function of the user's judges, as no code is named between ranks.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import groupby
from typing import Any

from open_exaone.base.errors import RankError
from open_exaone.base.records import Generation, Problem, Request, Sample, Sampling
from open_exaone.evaluation.judged import judged
from open_exaone.evaluation.rows import Place, essence, generation_row, place_row, verdict_row
from open_exaone.rollout.judge_outage import UNJUDGED, Patience
from open_exaone.rollout.judging import JudgePool, is_slow
from open_exaone.rollout.provider import Generations, Provider
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.rollout.team import Job, OnRow, Row, Serve, Team
from open_exaone.verify.own import is_own
from open_exaone.verify.settings import JudgeSettings

CHUNKS_PER_RANK = 16  # about; each of at most MAX_CHUNK samples
MAX_CHUNK = 16
MAX_LENGTHS = 4096  # more samples than that run together nowhere


@dataclass(frozen=True, slots=True)
class Wanted:
    """One sample that is asked for."""

    place: Place
    problem: Problem
    request: Request
    key: str
    judged_by: str

    def sample(self, generation: Generation, *, keeps_ids: bool) -> Sample:
        """It, once it is generated."""
        if not keeps_ids:
            generation = replace(generation, ids=None, logprobs=None, policy_version=None)
        return Sample(self.key, self.place.task, self.place.problem, self.place.index, generation, UNJUDGED)


def shared_stream(
    provider: LocalProvider, team: Team, wanted: Sequence[Wanted], on_row: OnRow, *, keeps_ids: bool
) -> Generations:
    """What this rank draws of what is wanted, while others draw the rest; over when all have.

    Args:
        on_row: gets the other ranks' samples and verdicts, as an evaluation's journal holds them.

    Raises:
        RankError: another rank has failed.
        OpenExaoneError: see `Provider.stream`.
        Interrupted: after Ctrl-C or SIGTERM, also of another rank.
    """
    chunks = list(_chunks(wanted, team.size))
    lengths = [len(item.request.prompt_ids or ()) + item.request.sampling.max_new_tokens for item in wanted]
    head: dict[str, Any] = {
        "model": essence(provider.identity),
        "keeps_ids": keeps_ids,
        "most_running": -(-len(wanted) // team.size),  # of one rank: what is more, the others take
        "lengths": sorted(lengths, reverse=True)[:MAX_LENGTHS],
    }
    job = team.share(head, [_chunk_row(wanted, places) for places in chunks], on_row)
    asked: list[int] = []

    def more(num_running: int) -> list[Request]:
        job.receive()
        if num_running >= min(head["most_running"], provider.num_slots) or (number := job.take()) is None:
            return []
        asked.extend(chunks[number])
        return [wanted[place].request for place in chunks[number]]

    with closing(provider.stream([], more=more, lengths=head["lengths"])) as stream:
        for number, generation in stream:
            yield asked[number], generation
    for end in job.finish():
        provider.note(end["notes"], end["failure"])


def serving(open_provider: Callable[[], Provider], settings: JudgeSettings) -> Serve:
    """What the other ranks do for an evaluation's jobs.

    Args:
        open_provider: what samples here; opened with the first job.
    """
    opened = cache(open_provider)

    def serve(job: Job) -> Row:
        provider = opened()
        assert isinstance(provider, LocalProvider)  # others are asked by the first rank alone
        return serve_samples(job, provider, settings)

    return serve


def serve_samples(job: Job, provider: LocalProvider, settings: JudgeSettings) -> Row:
    """Draws and judges this rank's share of a job.

    Returns:
        what `LocalProvider.note` takes.

    Raises:
        RankError: the first rank samples from another model.
        DataError: a problem is wrong.
    """
    head = job.head
    if (own := essence(provider.identity)) != head["model"]:
        differs = [name for name in own.keys() | head["model"].keys() if own.get(name) != head["model"].get(name)]
        raise RankError(
            f"this rank samples from another model than rank 0 does, which differs in {', '.join(sorted(differs))}: "
            "give all ranks the same files, and machines of one kind"
        )
    asked: list[Wanted] = []
    by_place: dict[Place, Wanted] = {}
    samples: dict[Place, Sample] = {}

    def more(num_running: int) -> list[Request]:
        if num_running >= min(head["most_running"], provider.num_slots):
            job.check()
            return []
        new = list(_read_chunk(chunk)) if (chunk := job.take()) is not None else []
        asked.extend(new)
        by_place.update({item.place: item for item in new})
        return [item.request for item in new]

    pool = JudgePool(
        samples,
        lambda place, sample: judged(by_place[place].problem, sample, settings, by_place[place].judged_by),
        is_slow=lambda place: is_slow(by_place[place].problem),
        patience=Patience(settings.endpoint),
        on_judged=lambda places: job.send([{**place_row(samples[p]), **verdict_row(samples[p])} for p in places]),
    )
    try:
        with closing(provider.stream([], more=more, lengths=head["lengths"])) as stream:
            for number, generation in stream:
                item = asked[number]
                sample = samples[item.place] = item.sample(generation, keeps_ids=head["keeps_ids"])
                job.send([generation_row(sample)])
                if not is_own(item.problem.verifier):
                    pool.add(item.place)
        pool.settle()
    finally:
        pool.stop()
    return {"notes": list(provider.notes), "failure": provider.failure}


def _chunks(wanted: Sequence[Wanted], num_ranks: int) -> Iterator[list[int]]:
    """Places of what is claimed together: neighbours, and samples of one prompt as far as may be."""
    size = max(1, min(MAX_CHUNK, len(wanted) // (CHUNKS_PER_RANK * num_ranks)))
    chunk: list[int] = []
    for _, group in groupby(range(len(wanted)), lambda place: _prompt_of(wanted[place])):
        places = list(group)
        for start in range(0, len(places), size):
            chunk += places[start : start + size]
            if len(chunk) >= size:
                yield chunk
                chunk = []
    if chunk:
        yield chunk


def _prompt_of(item: Wanted) -> tuple[str, str]:
    return item.place.task, item.place.problem


def _chunk_row(wanted: Sequence[Wanted], places: Sequence[int]) -> dict[str, Any]:
    """A chunk as JSON: each prompt once, with the samples of it that are wanted."""
    prompts = []
    for (task, _), group in groupby((wanted[place] for place in places), _prompt_of):
        items = list(group)
        request = items[0].request
        prompts.append(
            {
                "task": task,
                "problem": asdict(items[0].problem),
                "judged_by": items[0].judged_by,
                "prompt_ids": request.prompt_ids,
                "thinking": request.thinking,
                "sampling": asdict(request.sampling),
                "occurrence": request.occurrence,
                "num_begun": request.num_begun,
                "samples": [(item.request.index, item.key) for item in items],
            }
        )
    return {"prompts": prompts}


def _read_chunk(chunk: Row) -> Generator[Wanted, None, None]:
    for row in chunk["prompts"]:
        problem, sampling = Problem(**row["problem"]), Sampling(**row["sampling"])
        fields = {name: row[name] for name in ("occurrence", "num_begun")}
        for index, key in row["samples"]:
            request = Request((), tuple(row["prompt_ids"]), row["thinking"], sampling, index, **fields)
            yield Wanted(Place(row["task"], problem.id, index), problem, request, key, row["judged_by"])
