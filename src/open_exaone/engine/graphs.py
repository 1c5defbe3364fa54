"""The GPU's backend: decoding steps of static shapes, captured in CUDA graphs. Prompts are read as in `plain.py`.

What a step reads and writes lies in tensors that stay: the host fills them, replays the graph once a token, and reads
them once at the end. A step draws each row's token and feeds it to the next step, so that nothing waits for the host.
Rows that have ended, and rows that pad a batch, are padding to the model. A row whose token the step cannot draw (its
logits are changed by a penalty or a bias, its request asks for the most likely tokens, or these do not hold what its
filters keep) stalls: it reads
the same token again in each further step, and the host draws from its logits at the end.

On other devices the same steps are called, not captured; that is for tests.
"""

import importlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from open_exaone.engine.backend import Tokens
from open_exaone.engine.blocks import LOCAL, Table, num_blocks
from open_exaone.engine.plain import KINDS, PlainBackend, block_tables, bucket
from open_exaone.engine.request import Sample, prompt_of
from open_exaone.engine.sampling import ROW_DTYPES, Modes, RowSettings, Settings, draw_quickly, needs_counts
from open_exaone.model.cache import BlockTable, Cache, keep_updates_eager
from open_exaone.model.config import LayerKind
from open_exaone.model.logprobs import token_logprobs
from open_exaone.model.lora import LoraLinear
from open_exaone.model.threads import computing
from open_exaone.model.transformer import LanguageModel

MOST_STEPS = 16  # of one call: then others may enter, and tokens are given on
MOST_COMPILED = 32  # variants of a layer: kinds of layers, prompts and steps, one row and several, training
MOST_GRAPHS = 96  # that are kept; each takes a few megabytes of the driver's memory
KEPT_SHARE = 0.125  # of the device's memory: pools that are as small stay for the next session, and graphs with them


class StepShape(NamedTuple):
    """What a graph is captured for."""

    num_rows: int
    num_blocks: int  # of the global layers' table
    num_stop_ids: int
    modes: Modes


class GraphBackend(PlainBackend):
    """Many steps a call; see `Backend`."""

    def __init__(self, model: LanguageModel, end_ids: frozenset[int]) -> None:
        super().__init__(model)
        self._end_ids = end_ids
        self._steps: OrderedDict[StepShape, _Step] = OrderedDict()
        self._places: tuple[object, ...] = ()  # of the weights that graphs read
        self._num_stalled = 0  # rows of the last call
        self._logits_BV: dict[int, Tensor] = {}  # by B
        self._sizes: tuple[int, ...] = (0, 0)  # of the pools
        self._warm: set[StepShape] = set()
        self._pool: Any = None  # of the graphs' memory
        if model.device.type == "cuda":
            fuse(model)

    def refresh(self) -> bool:
        places = (
            *(weight.data_ptr() for weight in self._model.parameters()),
            *(part.is_on for part in self._model.modules() if isinstance(part, LoraLinear)),
        )
        if places != self._places:
            self._forget_steps()
            self._warm.clear()
            self._places = places
        return super().refresh()

    def make_pools(self, sizes: Sequence[int]) -> None:
        fits = all(size <= kept for size, kept in zip(sizes, self._sizes, strict=True))
        if fits and (any(sizes) or self._may_keep()):
            return
        self._forget_steps()  # they read the earlier pools
        self._sizes = tuple(sizes)
        super().make_pools(sizes)

    def _may_keep(self) -> bool:
        """Whether the pools may stay though no session is open."""
        device = self._model.device
        if device.type != "cuda":
            return False
        memory = torch.cuda.get_device_properties(device).total_memory
        taken = sum(size * num_bytes for size, num_bytes in zip(self._sizes, self._block_bytes, strict=True))
        return bool(taken <= KEPT_SHARE * memory)

    def most_steps(self, num_samples: int) -> int:
        return 1 if self._num_stalled * 4 > num_samples else MOST_STEPS

    def decode(self, samples: Sequence[Sample], num_steps: Sequence[int]) -> list[Tokens]:
        self._num_stalled = 0
        if any(not _is_drawn_inside(sample) for sample in samples):
            num_steps = [1] * len(samples)
        with torch.inference_mode(), computing(self._model, "sample"):
            return super().decode(samples, num_steps)

    def _decode(self, samples: Sequence[Sample], num_steps: Sequence[int], most_blocks: int) -> list[Tokens]:
        step = self._step(samples, bucket(most_blocks))
        step.fill(samples, num_steps, self._end_ids)
        for _ in range(max(num_steps)):
            step.replay()
        found, stalled = step.tokens(len(samples))
        self._num_stalled += len(stalled)
        if stalled:
            parts = [samples[row] for row in stalled], [found[row].ids_T for row in stalled]
            rest = self._tokens(*parts, step.logits_BV[torch.tensor(stalled, device=self._model.device)])
            for row, last in zip(stalled, rest, strict=True):
                found[row] = _joined(found[row], last)
        return found

    def _step(self, samples: Sequence[Sample], width: int) -> "_Step":
        """The step for these rows, captured if it is new."""
        samplings = [sample.request.sampling for sample in samples]
        modes = Modes.of([RowSettings.of(one, self._model.config.vocab_size) for one in set(samplings)])
        num_stop_ids = max(8, bucket(len(self._end_ids) + max(len(one.stop_ids) for one in samplings)))
        shape = StepShape(bucket(len(samples)), width, num_stop_ids, modes._replace(has_min_p=modes.has_draws))
        step = self._steps.pop(shape, None)
        if step is None:
            if len(self._steps) >= MOST_GRAPHS:
                self._steps.popitem(last=False)
            assert self._cache is not None
            step = _Step(self._model, self._cache, shape, self._logits(shape.num_rows))
            if self._model.device.type == "cuda":
                self._pool = self._pool or torch.cuda.graph_pool_handle()
                with torch.cuda.device(self._model.device):
                    step.replay = captured(step.run, self._pool, 0 if shape in self._warm else 2)
                self._warm.add(shape)
        self._steps[shape] = step  # the last is the one used last
        return step

    def _logits(self, num_rows: int) -> Tensor:
        """Where steps of so many rows write their logits."""
        if num_rows not in self._logits_BV:
            vocab_size, device = self._model.config.vocab_size, self._model.device
            self._logits_BV[num_rows] = torch.zeros(num_rows, vocab_size, device=device)
        return self._logits_BV[num_rows]

    def _forget_steps(self) -> None:
        self._steps.clear()
        self._logits_BV.clear()
        self._pool = None


def fuse(model: LanguageModel) -> None:
    """Compiles the layers, unless training has: norms, rotary embedding and SwiGLU would be 70 kernels a layer.

    TORCH_COMPILE_DISABLE=1 switches it off.
    """
    keep_updates_eager()
    dynamo = importlib.import_module("torch._dynamo")  # slow to load
    dynamo.config.recompile_limit = max(MOST_COMPILED, dynamo.config.recompile_limit)
    for layer in model.model.layers:
        if layer._compiled_call_impl is None:
            layer.compile(dynamic=True)


def captured(run: Callable[[], None], pool: Any, num_before: int) -> Callable[[], None]:
    """Replays what `run` does.

    Args:
        num_before: how often it runs before, on other memory than the graph's: libraries prepare themselves then.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(num_before):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):  # other threads' sessions may go on
        run()
    return graph.replay


class _Step:
    """One token of each row, S of a call at most; a row is padding until `fill` names its sample."""

    def __init__(self, model: LanguageModel, cache: Cache, shape: StepShape, logits_BV: Tensor) -> None:
        self._model, self._cache, self._shape, self.logits_BV = model, cache, shape, logits_BV
        self._device = model.device
        B, config = shape.num_rows, model.config
        long: dict[str, Any] = {"dtype": torch.long, "device": self._device}
        self._tables: dict[LayerKind, BlockTable] = {}
        for number, kind in enumerate(KINDS):
            width = shape.num_blocks
            if number == LOCAL and config.window is not None:
                width = min(width, num_blocks(config.window + MOST_STEPS) + 1)
            self._tables[kind] = BlockTable(torch.full((B, width), -1, **long), torch.zeros(B, 1, **long))
        self._ids_B, self._start_B, self._num_steps_B, self._num_drawn_B = torch.zeros(4, B, **long)
        self._forced_BS = torch.full((B, MOST_STEPS), -1, **long)
        self._stop_ids_BE = torch.full((B, shape.num_stop_ids), -1, **long)
        self._uniforms_BS = torch.zeros(B, MOST_STEPS, device=self._device)
        self._rows_5B1 = [torch.ones(B, 1, dtype=dtype, device=self._device) for dtype in ROW_DTYPES]
        # What has become of each row: whether it goes on, is drawn inside, has stalled, has failed, was cut.
        self._state_5B = torch.zeros(5, B, dtype=torch.bool, device=self._device)
        # Ids, log-probabilities and sampling log-probabilities. What is written behind a row's end counts as nothing.
        self._drawn_3BS = torch.zeros(3, B, MOST_STEPS + 1, dtype=torch.float64, device=self._device)
        unused_B1 = torch.zeros(B, 1, device=self._device)
        temperature_B1, is_greedy_B1, min_d_B1, top_k_B1, top_p_B1 = self._rows_5B1
        self._settings = Settings(
            temperature_B1,
            is_greedy_B1,
            min_d_B1,
            top_k_B1,
            top_p_B1,
            unused_B1,
            unused_B1,
            unused_B1,
            biases=(),
            modes=shape.modes,
            has_penalties=False,
        )
        self.replay: Callable[[], None] = self.run

    def run(self) -> None:
        """Reads each row's last token and draws the next. Nothing here may depend on a value on the host."""
        goes_on_B, is_inside_B, has_stalled_B, has_failed_B, was_cut_B = self._state_5B
        reads_B = goes_on_B | has_stalled_B
        positions_B1 = torch.where(reads_B, self._start_B + self._num_drawn_B, -1)[:, None]
        self._cache.tables = self._tables
        x_B1D = self._model.model(self._ids_B[:, None], positions_B1, cache=self._cache)
        self.logits_BV.copy_(self._model.head(x_B1D[:, 0]))
        place_B1 = self._num_drawn_B[:, None].clamp(max=MOST_STEPS - 1)
        uniforms_B = self._uniforms_BS.gather(1, place_B1)[:, 0]
        ids_B, sampling_logprobs_B, is_exact_B, is_valid_B = draw_quickly(self.logits_BV, self._settings, uniforms_B)
        is_drawn_B = goes_on_B & is_inside_B & is_exact_B & is_valid_B

        forced_B = self._forced_BS.gather(1, place_B1)[:, 0]
        is_forced_B = forced_B >= 0
        was_cut_B |= is_drawn_B & is_forced_B & (forced_B != ids_B)
        ids_B = torch.where(is_forced_B, forced_B, ids_B)
        sampling_logprobs_B = sampling_logprobs_B.masked_fill(is_forced_B, 0.0)
        logprobs_B = token_logprobs(self.logits_BV, ids_B)
        drawn_3B = torch.stack((ids_B.double(), logprobs_B.double(), sampling_logprobs_B.double()))
        place_3B1 = torch.where(is_drawn_B, self._num_drawn_B, MOST_STEPS).expand(3, -1)[..., None]
        self._drawn_3BS.scatter_(2, place_3B1, drawn_3B[..., None])

        self._num_drawn_B += is_drawn_B
        self._ids_B.copy_(torch.where(is_drawn_B, ids_B, self._ids_B))
        fails_B = goes_on_B & is_inside_B & ~is_valid_B
        has_failed_B |= fails_B
        has_stalled_B |= goes_on_B & ~is_drawn_B & ~fails_B
        is_end_B = (ids_B[:, None] == self._stop_ids_BE).any(-1)
        goes_on_B &= is_drawn_B & ~is_end_B & (self._num_drawn_B < self._num_steps_B)

    def fill(self, samples: Sequence[Sample], num_steps: Sequence[int], end_ids: frozenset[int]) -> None:
        """Has the rows go on as these samples."""
        B, vocab_size = self._shape.num_rows, self._model.config.vocab_size
        tables = [sample.table for sample in samples if sample.table is not None]
        samplings = [sample.request.sampling for sample in samples]
        self._put(self._ids_B, [(sample.ids or prompt_of(sample.request))[-1] for sample in samples])
        self._put(self._start_B, [table.length for table in tables])
        self._put(self._num_steps_B, num_steps)
        forced = [sample.forced_ids() for sample in samples]
        self._put(self._forced_BS, _padded(forced, MOST_STEPS, -1, np.int64))
        stop_ids = {one: sorted({*end_ids, *one.stop_ids}) for one in set(samplings)}
        self._put(
            self._stop_ids_BE, _padded([stop_ids[one] for one in samplings], self._shape.num_stop_ids, -1, np.int64)
        )
        uniforms = [sample.uniforms_T[len(sample.ids) :] for sample in samples]
        self._put(self._uniforms_BS, _padded(uniforms, MOST_STEPS, 0.0, np.float32))
        rows = {one: RowSettings.of(one, vocab_size) for one in set(samplings)}
        for target_B1, values in zip(self._rows_5B1, zip(*(rows[one] for one in samplings), strict=True), strict=True):
            self._put(target_B1[:, 0], values)
        state_5B = np.zeros((5, B), np.bool_)
        state_5B[0, : len(samples)] = True
        state_5B[1, : len(samples)] = [_is_drawn_inside(sample) for sample in samples]
        self._put(self._state_5B, state_5B)
        self._num_drawn_B.zero_()
        self._fill_tables(tables, num_steps)

    def _fill_tables(self, tables: Sequence[Table], num_steps: Sequence[int]) -> None:
        ends = [table.length + num for table, num in zip(tables, num_steps, strict=True)]
        for number, kind in enumerate(KINDS):
            width = self._tables[kind].blocks_BN.shape[1]
            arrays = block_tables(number, tables, ends, width)
            for target, values in zip(self._tables[kind], arrays, strict=True):
                self._put(target, values)

    def _put(self, target: Tensor, values: Any) -> None:
        """Copies the first rows from the host, without waiting for the device."""
        source = torch.as_tensor(values, dtype=target.dtype)
        if self._device.type == "cuda":
            source = source.pin_memory()
        target[: len(source)].copy_(source, non_blocking=True)

    def tokens(self, num_rows: int) -> tuple[list[Tokens], list[int]]:
        """What the first rows have drawn since they were filled, and which of them have stalled."""
        numbers_6B = torch.cat((self._num_drawn_B[None], self._state_5B.long()))
        everything = torch.cat((self._drawn_3BS.permute(1, 0, 2).flatten(1), numbers_6B.double().T), dim=1).tolist()
        found, stalled = [], []
        for row, values in enumerate(everything[:num_rows]):
            *drawn, num_drawn, _, _, has_stalled, has_failed, was_cut = values
            ids, logprobs, sampling_logprobs = (
                drawn[first : first + int(num_drawn)] for first in range(0, len(drawn), MOST_STEPS + 1)
            )
            found.append(
                Tokens([int(token) for token in ids], logprobs, sampling_logprobs, not has_failed, was_cut > 0)
            )
            if has_stalled:
                stalled.append(row)
        return found, stalled


def _is_drawn_inside(sample: Sample) -> bool:
    """Whether a step draws its tokens: nothing changes its logits, and nothing else is asked of them."""
    sampling = sample.request.sampling
    needs_logits = sample.constraint is not None or sample.request.num_top_logprobs > 0
    return not (needs_logits or sampling.logit_bias or needs_counts(sampling))


def _joined(first: Tokens, last: Tokens) -> Tokens:
    """A row's tokens, of which the last was drawn outside."""
    return Tokens(
        first.ids_T + last.ids_T,
        first.logprobs_T + last.logprobs_T,
        first.sampling_logprobs_T + last.sampling_logprobs_T,
        last.is_valid,
        first.was_cut or last.was_cut,
        last.top_logprobs_T,  # a row that asks for some is drawn outside, one token a call
    )


def _padded(rows: Sequence[Any], width: int, padding: float, dtype: DTypeLike) -> NDArray[Any]:
    """The first numbers of each row."""
    padded = np.full((len(rows), width), padding, dtype)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values[:width]
    return padded
