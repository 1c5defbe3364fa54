"""How Python calls the native kernels: when they can be called, with which pointers and how many threads."""

import ctypes

import torch
from torch import Tensor

from open_exaone.kernels.build import library

DTYPES = {torch.float32: 0, torch.bfloat16: 1}  # as in native.h


def is_native(*tensors: Tensor) -> bool:
    """Whether the compiled kernels take these tensors: on the CPU, all float32 or all bfloat16."""
    first = tensors[0].dtype
    suits = first in DTYPES and all(x.device.type == "cpu" and x.dtype == first for x in tensors)
    return suits and library() is not None


def call(name: str, *arguments: Tensor | int | float | None) -> None:
    """Calls a compiled function with tensors as pointers (None: a null pointer), ints as int64 and floats as float.

    The last argument of every function is the number of threads, torch's own; it is added here.
    """
    kernels = library()
    assert kernels is not None
    values = [_as_c(argument) for argument in (*arguments, torch.get_num_threads())]
    getattr(kernels, name)(*values)


def _as_c(argument: Tensor | int | float | None) -> ctypes.c_void_p | ctypes.c_int64 | ctypes.c_float:
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, float):
        return ctypes.c_float(argument)
    return ctypes.c_void_p(None) if argument is None else ctypes.c_int64(argument)
