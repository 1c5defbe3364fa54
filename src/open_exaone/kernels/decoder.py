"""A model's steps on the CPU as one native call: packed weights, blocks of keys and values, sampling (`decode/`)."""

import ctypes
import weakref
from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from open_exaone.kernels.build import library
from open_exaone.kernels.call import DTYPES

LANES = 16  # widths are multiples of it
KINDS = {"float32": 0, "bfloat16": 1, "int8": 2}  # of packed weights, as in native.h and matrix.h

# As in decoder.cpp.
PARTS = (
    *("embedding", "head", "final_norm"),
    *("q", "k", "v", "o", "gate", "up", "down"),
    *("first_norm", "second_norm", "q_norm", "k_norm", "q_bias", "k_bias", "v_bias"),
)

# As in sequence.h; pointers are numbers, and null where they are 0.
SEQUENCE = np.dtype(
    [
        *((name, np.int64) for name in ("position", "num_ids", "ids", "global_table", "local_table")),
        *((name, np.int64) for name in ("num_steps", "uniforms")),
        *((name, np.float64) for name in ("temperature", "top_p", "min_p")),
        ("top_k", np.int64),
        *((name, np.float64) for name in ("presence_penalty", "frequency_penalty", "repetition_penalty")),
        *((name, np.int64) for name in ("counts", "is_in_prompt", "bias_ids", "biases", "num_biases")),
        *((name, np.int64) for name in ("end_ids", "num_end_ids", "forced", "num_forced")),
        *((name, np.int64) for name in ("drawn", "logprobs", "sampling_logprobs")),
        *((name, np.int64) for name in ("num_top", "top_ids", "top_logprobs")),
        *((name, np.int64) for name in ("num_drawn", "num_replaced", "status")),
    ]
)
RUNNING, ENDED, NOT_A_NUMBER = range(3)  # a sequence's status


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's shape as the native code takes it: the fields of decoder.cpp's `Config`, in its order."""

    vocab: int
    width: int
    num_layers: int
    heads: int
    kv_heads: int
    head_width: int
    ffn_width: int
    window: int  # 0: none
    weights: int  # one of KINDS
    cache: int  # one of DTYPES
    is_reordered: bool
    has_qk_norm: bool
    has_bias: bool
    norm_eps: float


class Decoder:
    """Packed weights and the two pools of blocks: one of the global layers, one of the local ones.

    Args:
        is_local, is_turned: one a layer: whether it sees a window only, whether it has RoPE.
        frequencies_H2: RoPE's, radians a position for each pair of a head's channels.

    Raises:
        MemoryError: memory does not hold the weights.
    """

    def __init__(
        self, shape: Shape, is_local: Sequence[bool], is_turned: Sequence[bool], frequencies_H2: Tensor
    ) -> None:
        kernels = library()
        assert kernels is not None
        self._kernels = kernels
        *integers, eps = astuple(shape)
        config = np.array(integers, np.int64).tobytes() + np.float64(eps).tobytes()
        frequencies_H2 = frequencies_H2.float().contiguous()
        flags = [np.array(values, np.int64) for values in (is_local, is_turned)]
        for name in ("new", "take", "make_pools", "prefill", "decode"):
            getattr(kernels, f"decoder_{name}").restype = ctypes.c_int64
        handle = kernels.decoder_new(
            ctypes.c_char_p(config), *map(_pointer, flags), ctypes.c_void_p(frequencies_H2.data_ptr())
        )
        if not handle:
            raise MemoryError("memory does not hold the packed weights")
        self._handle = ctypes.c_void_p(handle)
        weakref.finalize(self, kernels.decoder_free, self._handle)
        self._embedding: Tensor | None = None
        self.num_blocks = (0, 0)

    def take(self, part: str, layer: int, weight: Tensor) -> None:
        """Packs one of the weights; the embedding is not copied but read where it is.

        Raises:
            MemoryError: memory does not hold it.
        """
        weight = weight.detach().contiguous()
        if weight.dtype not in DTYPES:
            weight = weight.float()
        if part == "embedding":
            self._embedding = weight
        is_taken = self._kernels.decoder_take(
            self._handle,
            ctypes.c_int64(PARTS.index(part)),
            ctypes.c_int64(layer),
            ctypes.c_void_p(weight.data_ptr()),
            ctypes.c_int64(DTYPES[weight.dtype]),
        )
        if not is_taken:
            raise MemoryError("memory does not hold the packed weights")

    def make_pools(self, num_global: int, num_local: int) -> None:
        """Reserves room for so many blocks, instead of the earlier room. Memory is taken when a block is written to.

        Raises:
            MemoryError: there is not so much address space.
        """
        numbers = map(ctypes.c_int64, (num_global, num_local))
        if not self._kernels.decoder_make_pools(self._handle, *numbers):
            raise MemoryError(f"memory does not hold {num_global:,} and {num_local:,} blocks of keys and values")
        self.num_blocks = num_global, num_local

    def copy_block(self, kind: int, source: int, target: int) -> None:
        """Copies a block of the global (0) or the local (1) pool."""
        self._kernels.decoder_copy_block(self._handle, *map(ctypes.c_int64, (kind, source, target)))

    def prefill(self, sequences_B: NDArray[np.void], num_threads: int) -> None:
        """Reads each sequence's new tokens into its blocks.

        Args:
            sequences_B: of type SEQUENCE; what its pointers point to must stay.

        Raises:
            MemoryError: memory does not hold what is computed. The blocks of the new tokens hold anything then.
        """
        self._call("decoder_prefill", sequences_B, num_threads)

    def decode(self, sequences_B: NDArray[np.void], num_threads: int) -> None:
        """Draws up to `num_steps` tokens for each sequence, whose one new token is the last that is known.

        Raises:
            MemoryError: as `prefill`; what is counted of the replies' tokens is wrong then.
        """
        self._call("decoder_decode", sequences_B, num_threads)

    def _call(self, name: str, sequences_B: NDArray[np.void], num_threads: int) -> None:
        assert sequences_B.dtype == SEQUENCE and sequences_B.flags.c_contiguous
        sizes = (ctypes.c_int64(len(sequences_B)), ctypes.c_int64(num_threads))
        if not getattr(self._kernels, name)(self._handle, _pointer(sequences_B), *sizes):
            raise MemoryError(
                f"the engine cannot compute {len(sequences_B)} sequences together: lower num_slots, or free memory"
            )


def _pointer(array: NDArray[np.generic]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
