"""The reference backend: the model's own forward in plain torch, over the same blocks; any device, any dtype."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from open_exaone.engine.backend import Tokens
from open_exaone.engine.blocks import Table, num_blocks
from open_exaone.engine.request import Sample, prompt_of
from open_exaone.engine.sampling import Settings, TokenCounts, draw, needs_counts, top_logprobs
from open_exaone.engine.scheduler import Chunk
from open_exaone.model.cache import BlockTable, Cache
from open_exaone.model.config import LayerKind
from open_exaone.model.logprobs import token_logprobs
from open_exaone.model.lora import weights_state
from open_exaone.model.threads import computing
from open_exaone.model.transformer import LanguageModel

KINDS = (LayerKind.GLOBAL, LayerKind.LOCAL)  # as the engine counts them


class PlainBackend:
    """One step a call; see `Backend`."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._cache: Cache | None = None
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
        self._forward([chunk.ids for chunk in chunks], [chunk.prompt.table for chunk in chunks])

    def decode(self, samples: Sequence[Sample], num_steps: Sequence[int]) -> list[Tokens]:
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
