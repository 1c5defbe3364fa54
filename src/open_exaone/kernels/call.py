"""How Python calls the native kernels: when they can be called, with which pointers and how many threads."""

import ctypes

import torch
from torch import Tensor

from open_exaone.kernels.build import library

DTYPES = {torch.float32: 0, torch.bfloat16: 1}  # as in native.h


def is_native(*tensors: Tensor) -> bool:
    """Whether the compiled kernels take these tensors: on the CPU, all float32 or all bfloat16."""
    first = tensors[0].dtype
    for x in tensors:
        if x.dtype != first or not x.is_cpu:
            return False
    return first in DTYPES and library() is not None


def call(name: str, *arguments: Tensor | int | float | None) -> None:
    """Calls a compiled function with tensors as pointers (None: a null pointer), ints as int64 and floats as float.

    The last argument of every function is the number of threads, torch's own; it is added here.
    """
    kernels = library()
    assert kernels is not None
    function = getattr(kernels, name)
    if function.argtypes is None:  # set once, as an object of ctypes for each argument takes longer
        function.argtypes = [_type(argument) for argument in (*arguments, 0)]
    function(*map(_value, arguments), torch.get_num_threads())


def _value(argument: Tensor | int | float | None) -> int | float | None:
    if not isinstance(argument, Tensor):
        return argument
    assert argument.is_contiguous()
    return argument.data_ptr()


def _type(argument: Tensor | int | float | None) -> type[ctypes.c_void_p | ctypes.c_int64 | ctypes.c_float]:
    if argument is None or isinstance(argument, Tensor):
        return ctypes.c_void_p
    return ctypes.c_float if isinstance(argument, float) else ctypes.c_int64
