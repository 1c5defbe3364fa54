"""`exaone`, but that rank 1 fails after some steps; test_states.py starts it in its place."""

import os

import torch

from open_exaone.base.errors import OpenExaoneError
from open_exaone.cli.main import main
from open_exaone.train.supervised import Supervised

if os.environ.get("RANK") == "1":
    real, calls = Supervised.loss, []

    def fail(gradient):
        raise OpenExaoneError("this rank alone fails")

    def loss(self, model, batch, denominator):
        calls.append(1)
        if len(calls) > 9 and os.environ["FAILS_WITH"] == "OpenExaoneError":
            found, metrics = real(self, model, batch, denominator)
            found.register_hook(fail)  # when the backward pass begins
            return found, metrics
        if len(calls) > 9:
            if os.environ["FAILS_WITH"] == "MemoryError":
                raise MemoryError
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
        return real(self, model, batch, denominator)

    Supervised.loss = loss
main()
