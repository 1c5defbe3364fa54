"""The reference backend: the model's own forward in plain torch, over the same blocks; any device, any dtype."""

from collections.abc import Sequence

import torch
from torch import Tensor

from open_exaone.engine.backend import Tokens
from open_exaone.engine.blocks import Table
from open_exaone.engine.request import Sample, prompt_of
from open_exaone.engine.sampling import Drawn, Settings, TokenCounts, draw, needs_counts
from open_exaone.engine.scheduler import Chunk
from open_exaone.model.cache import Cache
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
        longest = max(len(chunk.ids) for chunk in chunks)
        ids_BT = torch.zeros(len(chunks), longest, dtype=torch.long)
        positions_BT = torch.full((len(chunks), longest), -1)
        for row, chunk in enumerate(chunks):
            ids_BT[row, : len(chunk.ids)] = torch.tensor(chunk.ids)
            start = chunk.prompt.table.length
            positions_BT[row, : len(chunk.ids)] = torch.arange(start, start + len(chunk.ids))
        self._forward(ids_BT, positions_BT, [chunk.prompt.table for chunk in chunks])

    def decode(self, samples: Sequence[Sample], num_steps: Sequence[int]) -> list[Tokens]:
        ids_B1 = torch.tensor([[(sample.ids or prompt_of(sample.request))[-1]] for sample in samples])
        tables = [sample.table for sample in samples if sample.table is not None]
        positions_B1 = torch.tensor([[table.length] for table in tables])
        x_B1D = self._forward(ids_B1, positions_B1, tables)
        with torch.inference_mode():
            logits_BV = self._model.head(x_B1D[:, 0])
            drawn = self._draw(samples, logits_BV)
            was_cut = _force(samples, logits_BV, drawn)
        return [
            Tokens([token] if is_valid else [], [logprob], [sampling_logprob], is_valid, row in was_cut)
            for row, (token, logprob, sampling_logprob, is_valid) in enumerate(
                zip(*(part.tolist() for part in drawn), strict=True)
            )
        ]

    def forget(self, sample: Sample) -> None:
        pass

    def most_steps(self, num_samples: int) -> int:
        return 1

    def _forward(self, ids_BT: Tensor, positions_BT: Tensor, tables: Sequence[Table]) -> Tensor:
        assert self._cache is not None
        device = self._model.device
        for number, kind in enumerate(KINDS):
            rows = [table.arrays[number] for table in tables]
            table_BN = torch.full((len(rows), max(map(len, rows))), -1)
            for row, blocks in enumerate(rows):
                table_BN[row, : len(blocks)] = torch.from_numpy(blocks)
            self._cache.tables[kind] = table_BN.to(device)
        with torch.inference_mode(), computing(self._model, "sample"):
            x_BTD: Tensor = self._model.model(ids_BT.to(device), positions_BT.to(device), cache=self._cache)
        return x_BTD

    def _draw(self, samples: Sequence[Sample], logits_BV: Tensor) -> Drawn:
        """Draws for each row by its own settings, counts and number."""
        device, vocab_size = logits_BV.device, logits_BV.shape[1]
        uniforms_B = torch.tensor([float(sample.uniforms_T[len(sample.ids)]) for sample in samples], device=device)
        samplings = [sample.request.sampling for sample in samples]
        alike = {sampling.draw_key: sampling for sampling in samplings}
        counts = None
        if any(map(needs_counts, samplings)):
            counted = TokenCounts(len(samples), vocab_size, device)
            for row, sample in enumerate(samples):
                counted.enter(row, prompt_of(sample.request), sample.ids)
            counts = counted.of(range(len(samples)))
        settings = Settings.of(list(alike.values()) if len(alike) == 1 else samplings, vocab_size, device)
        return draw(logits_BV, settings, uniforms_B, counts)


def _force(samples: Sequence[Sample], logits_BV: Tensor, drawn: Drawn) -> set[int]:
    """Puts the tokens that end a cut thought in the place of those drawn; returns the rows where they differ."""
    forced = [(row, ids[0]) for row, sample in enumerate(samples) if (ids := sample.forced_ids())]
    if not forced:
        return set()
    rows_X, ids_X = torch.tensor(forced, device=logits_BV.device).T
    was_cut = set(rows_X[drawn.ids_B[rows_X] != ids_X].tolist())
    drawn.ids_B[rows_X] = ids_X
    drawn.logprobs_B[rows_X] = token_logprobs(logits_BV[rows_X], ids_X)
    drawn.sampling_logprobs_B[rows_X] = 0.0
    return was_cut
