"""The reference backend: the model's own forward in plain torch, over the same blocks; any device, any dtype."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from open_exaone.engine.backend import Tokens
from open_exaone.engine.blocks import GLOBAL, Table, num_blocks
from open_exaone.engine.memory import block_bytes
from open_exaone.engine.request import Sample, prompt_of
from open_exaone.engine.sampling import Settings, TokenCounts, draw, needs_counts, top_logprobs
from open_exaone.engine.scheduler import CHUNK_TOKENS, Chunk
from open_exaone.model.cache import BlockTable, Cache
from open_exaone.model.config import LayerKind
from open_exaone.model.logprobs import token_logprobs
from open_exaone.model.lora import weights_state
from open_exaone.model.threads import computing
from open_exaone.model.transformer import LanguageModel

KINDS = (LayerKind.GLOBAL, LayerKind.LOCAL)  # as the engine counts them
GATHER_COST = 3  # a key that a step sees is read, written to where a row's keys lie together, and read again
FEW_CHUNKS = 4


def bucket(number: int) -> int:
    """The next of 1, 2, 4, 6, 8, 12, 16, 24, 32, …: few shapes, of which at most a third is padding."""
    power = 1 << max(0, number - 1).bit_length()
    half = power * 3 // 4
    return half if number <= half and power >= 8 else power


def alike(chunks: Sequence[Chunk]) -> list[list[Chunk]]:
    """Chunks that are read together: what they are padded to takes little more memory than they do.

    Padded, their tokens are as many as a step reads at most, and their keys and values as many as of a few such steps,
    or twice their own.
    """
    parts: list[list[Chunk]] = []
    seen: list[int] = []  # positions that each of the last part sees
    for chunk in sorted(chunks, key=lambda chunk: len(chunk.ids), reverse=True):
        end = chunk.prompt.table.length + len(chunk.ids)
        seen.append(end)
        fits = len(seen) * max(seen) <= max(FEW_CHUNKS * CHUNK_TOKENS, 2 * sum(seen))
        if not parts or not fits or len(seen) * len(parts[-1][0].ids) > CHUNK_TOKENS:
            parts.append([])
            seen = [end]
        parts[-1].append(chunk)
    return parts


class PlainBackend:
    """One step a call; see `Backend`."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._cache: Cache | None = None
        self._block_bytes = block_bytes(model.config, model.dtype)
        self._state: tuple[int, ...] | None = None

    def refresh(self) -> bool:
        before, self._state = self._state, weights_state(self._model)
        return self._state is None or self._state != before

    def make_pools(self, sizes: Sequence[int]) -> None:
        self._cache = None  # before its room is taken again
        model = self._model
        self._cache = Cache(model.config, dict(zip(KINDS, sizes, strict=True)), model.dtype, model.device)

    def copy_block(self, kind: int, source: int, target: int) -> None:
        assert self._cache is not None
        self._cache.copy_block(KINDS[kind], source, target)

    def prefill(self, chunks: Sequence[Chunk]) -> None:
        for part in alike(chunks):
            self._forward([chunk.ids for chunk in part], [chunk.prompt.table for chunk in part])

    def decode(self, samples: Sequence[Sample], num_steps: Sequence[int]) -> list[Tokens]:
        found: dict[int, Tokens] = {}
        lengths = [
            num_blocks(sample.table.length + num) if sample.table is not None else 0
            for sample, num in zip(samples, num_steps, strict=True)
        ]
        # One long reply must not have the keys and values of all others padded to its length.
        for rows in self._parts(sorted(range(len(samples)), key=lambda row: lengths[row]), lengths):
            part, most_blocks = [samples[row] for row in rows], max(lengths[row] for row in rows)
            found |= zip(rows, self._decode(part, [num_steps[row] for row in rows], most_blocks), strict=True)
        return [found[row] for row in range(len(samples))]

    def _parts(self, rows: Sequence[int], lengths: Sequence[int]) -> list[Sequence[int]]:
        """Rows that decode together: those of unlike lengths apart, where that saves more than the weights cost."""
        half = len(rows) // 2
        if not half or self._cost(rows, lengths) <= self._cost(rows[:half], lengths) + self._cost(rows[half:], lengths):
            return [rows]
        return self._parts(rows[:half], lengths) + self._parts(rows[half:], lengths)

    def _cost(self, rows: Sequence[int], lengths: Sequence[int]) -> int:
        """Bytes that a step of these rows, the longest last, moves; local layers cost each row the same."""
        seen = bucket(len(rows)) * bucket(lengths[rows[-1]]) * self._block_bytes[GLOBAL]
        return self._model.config.num_parameters * self._model.dtype.itemsize + GATHER_COST * seen

    def _decode(self, samples: Sequence[Sample], num_steps: Sequence[int], most_blocks: int) -> list[Tokens]:
        ids_B1 = [[(sample.ids or prompt_of(sample.request))[-1]] for sample in samples]
        x_B1D = self._forward(ids_B1, [sample.table for sample in samples if sample.table is not None])
        with torch.inference_mode():
            return self._tokens(samples, [()] * len(samples), self._model.head(x_B1D[:, 0]))

    def forget(self, sample: Sample) -> None:
        pass

    def most_steps(self, num_samples: int) -> int:
        return 1

    def _forward(self, ids: Sequence[Sequence[int]], tables: Sequence[Table]) -> Tensor:
        """Reads each row's next tokens, whose blocks its table has."""
        assert self._cache is not None
        device = self._model.device
        ids_BT = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.long)
        positions_BT = torch.full_like(ids_BT, -1)
        for row, (of_row, table) in enumerate(zip(ids, tables, strict=True)):
            ids_BT[row, : len(of_row)] = torch.tensor(of_row)
            positions_BT[row, : len(of_row)] = torch.arange(table.length, table.length + len(of_row))
        ends = [table.length + len(of_row) for of_row, table in zip(ids, tables, strict=True)]
        self._cache.tables = {}
        for number, kind in enumerate(KINDS):
            blocks_BN, first_B1 = map(torch.from_numpy, block_tables(number, tables, ends))
            self._cache.tables[kind] = BlockTable(blocks_BN.to(device), first_B1.to(device))
        with torch.inference_mode(), computing(self._model, "sample"):
            x_BTD: Tensor = self._model.model(ids_BT.to(device), positions_BT.to(device), cache=self._cache)
        return x_BTD

    def _tokens(self, samples: Sequence[Sample], begun: Sequence[Sequence[int]], logits_BV: Tensor) -> list[Tokens]:
        """Draws for each row by its own settings, counts and number.

        Args:
            begun: what has been drawn of each sample since it was last taken.
        """
        device, vocab_size = logits_BV.device, logits_BV.shape[1]
        replies = [[*sample.ids, *ids] for sample, ids in zip(samples, begun, strict=True)]
        uniforms = [float(sample.uniforms_T[len(reply)]) for sample, reply in zip(samples, replies, strict=True)]
        samplings = [sample.request.sampling for sample in samples]
        alike = {sampling.draw_key: sampling for sampling in samplings}
        counts = None
        if any(map(needs_counts, samplings)):
            counted = TokenCounts(len(samples), vocab_size, device)
            for row, (sample, reply) in enumerate(zip(samples, replies, strict=True)):
                counted.enter(row, prompt_of(sample.request), reply)
            counts = counted.of(range(len(samples)))
        settings = Settings.of(list(alike.values()) if len(alike) == 1 else samplings, vocab_size, device)
        settings = replace(settings, biases=(*settings.biases, *_bans(samples, device)))
        drawn = draw(logits_BV, settings, torch.tensor(uniforms, device=device), counts)
        forced = [sample.forced_ids()[len(ids) :][:1] for sample, ids in zip(samples, begun, strict=True)]
        was_cut = set()
        if rows := [row for row, ids in enumerate(forced) if ids]:  # the end of a cut thought
            rows_X = torch.tensor(rows, device=device)
            ids_X = torch.tensor([forced[row][0] for row in rows], device=device)
            was_cut = set(rows_X[drawn.ids_B[rows_X] != ids_X].tolist())
            drawn.ids_B[rows_X] = ids_X
            drawn.logprobs_B[rows_X] = token_logprobs(logits_BV[rows_X], ids_X)
            drawn.sampling_logprobs_B[rows_X] = 0.0
        tops = {
            row: [top_logprobs(logits_BV[row], sample.request.num_top_logprobs)]
            for row, sample in enumerate(samples)
            if sample.request.num_top_logprobs
        }
        return [
            Tokens(
                [token] if is_valid else [], [logprob], [sampling_logprob], is_valid, row in was_cut, tops.get(row, ())
            )
            for row, (token, logprob, sampling_logprob, is_valid) in enumerate(
                zip(*(part.tolist() for part in drawn), strict=True)
            )
        ]


def _bans(samples: Sequence[Sample], device: torch.device) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The biases that rule out what constraints ban, as `Settings.biases` has them."""
    for row, sample in enumerate(samples):
        if sample.constraint is not None:
            ids_N = torch.from_numpy(sample.constraint.banned_ids()).long().to(device)
            yield torch.tensor([[row]], device=device), ids_N, torch.full((len(ids_N),), -torch.inf, device=device)


def block_tables(
    kind: int, tables: Sequence[Table], ends: Sequence[int], width: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The blocks that the layers of a kind use for each row's positions from its length to its end.

    Args:
        width: of the result; None: of the row that needs most.

    Returns:
        blocks_BN, -1 where there is none, and which of the row's blocks is the first of these, _B1.
    """
    firsts = [table.first_seen(kind) for table in tables]
    lasts = [num_blocks(end) for end in ends]
    if width is None:
        width = max(last - first for first, last in zip(firsts, lasts, strict=True))
    blocks_BN = np.full((len(tables), width), -1, np.int64)
    for row, (table, first, last) in enumerate(zip(tables, firsts, lasts, strict=True)):
        found = table.arrays[kind][first:last]
        blocks_BN[row, : len(found)] = found
    return blocks_BN, np.array(firsts, np.int64)[:, None]
