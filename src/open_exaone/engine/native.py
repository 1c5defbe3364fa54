"""The CPU's backend: a step of the whole model in one native call (`open_exaone.kernels.decoder`)."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from open_exaone.base.machine import num_cores
from open_exaone.base.records import Sampling, TopLogprobs
from open_exaone.engine.backend import Tokens
from open_exaone.engine.blocks import GLOBAL, LOCAL, Table
from open_exaone.engine.request import Sample, prompt_of
from open_exaone.engine.sampling import needs_counts
from open_exaone.engine.scheduler import Chunk
from open_exaone.kernels.build import library
from open_exaone.kernels.call import DTYPES
from open_exaone.kernels.decoder import KINDS, LANES, NOT_A_NUMBER, SEQUENCE, Decoder, Shape
from open_exaone.model.config import LayerKind, ModelConfig
from open_exaone.model.lora import plain_weight, weights_state
from open_exaone.model.rope import inverse_frequencies
from open_exaone.model.threads import is_ours_to_choose
from open_exaone.model.transformer import LanguageModel

MOST_SETTINGS = 256  # that are kept
# Of one call: then others may enter, tokens are given on, and Ctrl-C is heeded.
MOST_STEPS = 16
MOST_FLOPS = 2e10  # a fraction of a second

_NORMS = {
    "pre": ("input_layernorm", "post_attention_layernorm"),
    "reorder": ("post_attention_layernorm", "post_feedforward_layernorm"),
}


def why_not(model: LanguageModel) -> str | None:
    """Why the native code cannot compute a model; None where it can."""
    config = model.config
    if model.device.type != "cpu":
        return f"the model is on {model.device.type}"
    if model.dtype not in DTYPES:
        return f"the weights are {str(model.dtype).removeprefix('torch.')}"
    if config.width % LANES or config.head_width % LANES:
        return f"width = {config.width} and head_width = {config.head_width} are not multiples of {LANES}"
    return "there are no native kernels here" if library() is None else None


class NativeBackend:
    """Packed weights; see `Backend`."""

    def __init__(self, model: LanguageModel, end_ids: frozenset[int], *, int8: bool = False) -> None:
        """Args:
        int8: whether matrices are rounded to 8 bits, 32 weights a scale.
        """
        config = model.config
        dtype = str(model.dtype).removeprefix("torch.")
        self._model = model
        kinds = config.layer_kinds
        self._decoder = Decoder(
            _shape(config, KINDS["int8" if int8 else dtype], KINDS[dtype]),
            [kind is LayerKind.LOCAL for kind in kinds],
            [config.uses_rope(kind) for kind in kinds],
            inverse_frequencies(config),
        )
        self._taken: dict[tuple[str, int], tuple[int, ...] | None] = {}  # what each part was when it was packed
        self._end_ids = end_ids
        self._rows: dict[Sample, _Row] = {}
        self._settings: dict[Sampling, _Settings] = {}

    @property
    def num_threads(self) -> int:
        return num_cores() if is_ours_to_choose() else torch.get_num_threads()

    def refresh(self) -> bool:
        has_changed = False
        for part, layer, module in _parts(self._model):
            now = weights_state(module)
            if now is None or self._taken.get((part, layer)) != now:
                is_bias = part.endswith("_bias")
                self._decoder.take(part, layer, module.bias if is_bias else plain_weight(module))  # type: ignore[arg-type]
                self._taken[part, layer] = now
                has_changed = True
        return has_changed

    def make_pools(self, sizes: Sequence[int]) -> None:
        self._rows.clear()
        self._decoder.make_pools(*sizes)

    def copy_block(self, kind: int, source: int, target: int) -> None:
        self._decoder.copy_block(kind, source, target)

    def prefill(self, chunks: Sequence[Chunk]) -> None:
        sequences = np.zeros(len(chunks), SEQUENCE)
        ids_X = np.array([token for chunk in chunks for token in chunk.ids], np.int32)
        lengths = np.array([len(chunk.ids) for chunk in chunks])
        sequences["num_ids"] = lengths
        sequences["ids"] = _address(ids_X) + 4 * (lengths.cumsum() - lengths)
        _set_tables(sequences, [chunk.prompt.table for chunk in chunks])
        self._decoder.prefill(sequences, self.num_threads)

    def decode(self, samples: Sequence[Sample], num_steps: Sequence[int]) -> list[Tokens]:
        joined = bytearray(b"".join([self._row(sample).fields for sample in samples]))
        sequences = np.frombuffer(joined, SEQUENCE)
        places_B = np.arange(len(samples))
        last_B = np.array([(sample.ids or prompt_of(sample.request))[-1] for sample in samples], np.int32)
        sequences["num_ids"] = 1
        sequences["ids"] = _address(last_B) + 4 * places_B
        _set_tables(sequences, [sample.table for sample in samples if sample.table])
        sequences["num_steps"] = num_steps
        sequences["uniforms"] += 4 * np.array([len(sample.ids) for sample in samples])
        kept = [*self._forced(samples, sequences), *_ban(samples, sequences)]
        most = max(num_steps)
        tops = _ask_for_top(sequences, most)
        drawn_BT = np.zeros((len(samples), most), np.int32)
        logprobs_BT, sampling_logprobs_BT = np.zeros((2, len(samples), most), np.float32)
        for field, values in (
            ("drawn", drawn_BT),
            ("logprobs", logprobs_BT),
            ("sampling_logprobs", sampling_logprobs_BT),
        ):
            sequences[field] = _address(values) + 4 * most * places_B
        try:
            self._decoder.decode(sequences, self.num_threads)
        except MemoryError:
            self._rows.clear()  # the next try counts anew what replies have
            raise
        del kept
        results = zip(
            *(values.tolist() for values in (drawn_BT, logprobs_BT, sampling_logprobs_BT)),
            *(sequences[field].tolist() for field in ("num_drawn", "num_replaced", "status")),
            strict=True,
        )
        return [
            Tokens(
                ids[:num],
                logprobs[:num],
                sampling[:num],
                status != NOT_A_NUMBER,
                num_replaced > 0,
                _top_of(*tops[row], num) if row in tops else (),
            )
            for row, (ids, logprobs, sampling, num, num_replaced, status) in enumerate(results)
        ]

    def most_steps(self, num_samples: int) -> int:
        step = 2.0 * self._model.config.num_parameters * num_samples
        return max(1, min(MOST_STEPS, int(MOST_FLOPS / step)))

    def forget(self, sample: Sample) -> None:
        self._rows.pop(sample, None)

    def _row(self, sample: Sample) -> "_Row":
        row = self._rows.get(sample)
        if row is None:
            sampling = sample.request.sampling
            if sampling not in self._settings:
                if len(self._settings) >= MOST_SETTINGS:
                    self._settings.clear()
                self._settings[sampling] = _Settings(sampling, self._end_ids)
            row = self._rows[sample] = _Row(sample, self._settings[sampling], self._model.config.vocab_size)
        return row

    def _forced(self, samples: Sequence[Sample], sequences: NDArray[np.void]) -> list[NDArray[np.generic]]:
        """Names the tokens that end a cut thought; returns them, as they must stay."""
        kept: list[NDArray[np.generic]] = []
        for row, sample in enumerate(samples):
            if forced := sample.forced_ids():
                kept.append(np.array(forced, np.int32))
                sequences["forced"][row], sequences["num_forced"][row] = _address(kept[-1]), len(forced)
        return kept


def _ban(samples: Sequence[Sample], sequences: NDArray[np.void]) -> list[NDArray[np.generic]]:
    """Rules out the ids that constraints ban, by biases; returns these, as they must stay."""
    kept: list[NDArray[np.generic]] = []
    for row, sample in enumerate(samples):
        if sample.constraint is None:
            continue
        banned, given = sample.constraint.banned_ids(), dict(sample.request.sampling.logit_bias)
        ids = np.concatenate([np.array(list(given), np.int32), banned])
        biases = np.full(len(ids), -np.inf, np.float32)
        biases[: len(given)] = list(given.values())
        kept += [ids, biases]
        sequences["bias_ids"][row], sequences["biases"][row] = _address(ids), _address(biases)
        sequences["num_biases"][row] = len(ids)
    return kept


def _ask_for_top(
    sequences: NDArray[np.void], most_steps: int
) -> dict[int, tuple[NDArray[np.int32], NDArray[np.float32]]]:
    """Asks for the most likely tokens where requests do; returns where they will stand, [S, K], by row."""
    tops: dict[int, tuple[NDArray[np.int32], NDArray[np.float32]]] = {}
    for row in sequences["num_top"].nonzero()[0].tolist():
        shape = most_steps, int(sequences["num_top"][row])
        ids_SK, logprobs_SK = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        sequences["top_ids"][row], sequences["top_logprobs"][row] = _address(ids_SK), _address(logprobs_SK)
        tops[row] = ids_SK, logprobs_SK
    return tops


def _top_of(ids_SK: NDArray[np.int32], logprobs_SK: NDArray[np.float32], num_drawn: int) -> list[TopLogprobs]:
    rows = zip(ids_SK[:num_drawn].tolist(), logprobs_SK[:num_drawn].tolist(), strict=True)
    return [TopLogprobs(tuple(ids), tuple(logprobs)) for ids, logprobs in rows]


class _Settings:
    """What sequences of one sampling have in common, and the arrays that it points to."""

    def __init__(self, sampling: Sampling, end_ids: frozenset[int]) -> None:
        self.fields = np.zeros(1, SEQUENCE)
        self._kept: list[NDArray[np.generic]] = []
        for name in ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"):
            self.fields[name] = getattr(sampling, name)
        self.fields["top_k"] = min(sampling.top_k or 0, np.iinfo(np.int32).max)
        ends = np.array(sorted({*end_ids, *sampling.stop_ids}), np.int32)
        self._point("end_ids", ends)
        self.fields["num_end_ids"] = len(ends)
        if sampling.logit_bias:
            ids, biases = zip(*sampling.logit_bias, strict=True)
            self._point("bias_ids", np.array(ids, np.int32))
            self._point("biases", np.array(biases, np.float32))
            self.fields["num_biases"] = len(ids)

    def _point(self, field: str, array: NDArray[np.generic]) -> None:
        self._kept.append(array)
        self.fields[field] = _address(array)


class _Row:
    """What stays of a sample's sequence from call to call, as bytes, and the arrays that it points to."""

    def __init__(self, sample: Sample, settings: _Settings, vocab_size: int) -> None:
        fields = settings.fields.copy()
        fields["uniforms"] = _address(sample.uniforms_T)
        fields["num_top"] = max(0, min(sample.request.num_top_logprobs, vocab_size))
        self._kept: list[object] = [settings, sample.uniforms_T]
        sampling = sample.request.sampling
        if needs_counts(sampling):
            num_V = np.bincount(np.array(sample.ids, np.int64), minlength=vocab_size)
            counts_V = np.minimum(num_V, np.iinfo(np.uint16).max).astype(np.uint16)
            fields["counts"] = _address(counts_V)
            self._kept.append(counts_V)
        if sampling.repetition_penalty != 1:
            is_in_prompt_V = np.zeros(vocab_size, np.uint8)
            is_in_prompt_V[list(prompt_of(sample.request))] = 1
            fields["is_in_prompt"] = _address(is_in_prompt_V)
            self._kept.append(is_in_prompt_V)
        self.fields = fields.tobytes()


def _set_tables(sequences_B: NDArray[np.void], tables: Sequence[Table]) -> None:
    """Has each sequence go on where its table ends."""
    sequences_B["position"] = [table.length for table in tables]
    for field, kind in (("global_table", GLOBAL), ("local_table", LOCAL)):
        sequences_B[field] = [_address(table.arrays[kind]) for table in tables]


def _address(array: NDArray[np.generic]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _shape(config: ModelConfig, weights: int, cache: int) -> Shape:
    return Shape(
        vocab=config.vocab_size,
        width=config.width,
        num_layers=config.num_layers,
        heads=config.num_heads,
        kv_heads=config.num_kv_heads,
        head_width=config.head_width,
        ffn_width=config.ffn_width,
        window=config.window or 0,
        weights=weights,
        cache=cache,
        is_reordered=config.norm == "reorder",
        has_qk_norm=config.qk_norm,
        has_bias=config.qkv_bias,
        norm_eps=config.norm_eps,
    )


def _parts(model: LanguageModel) -> Iterator[tuple[str, int, nn.Module]]:
    """Each weight by the name that the decoder has for it: (part, layer, the module whose weight or bias it is)."""
    yield "embedding", 0, model.model.embed_tokens
    yield "head", 0, model.lm_head
    yield "final_norm", 0, model.model.norm
    first, second = _NORMS[model.config.norm]
    for number, layer in enumerate(model.model.layers):
        modules = {name: getattr(layer.self_attn, f"{name}_proj") for name in "qkvo"}
        modules |= {name: getattr(layer.mlp, f"{name}_proj") for name in ("gate", "up", "down")}
        modules |= {"first_norm": getattr(layer, first), "second_norm": getattr(layer, second)}
        if model.config.qk_norm:
            modules |= {name: getattr(layer.self_attn, name) for name in ("q_norm", "k_norm")}
        for name, module in modules.items():
            yield name, number, module
            if getattr(module, "bias", None) is not None:
                yield f"{name}_bias", number, module
