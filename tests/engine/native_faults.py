"""A process in which memory or threads end within calls of the native decoder; run by test_native_faults.py.

no_memory.cpp must have been loaded before all libraries.
"""

import ctypes
from contextlib import closing

from doubles import TINY, make_model, make_tokenizer, random_ids, request
from open_exaone.base.records import Sampling
from open_exaone.engine import native
from open_exaone.engine.engine import Engine
from open_exaone.kernels.decoder import Decoder

FOR_EVER = -1
POINTS = (0, 1, 2, 4, 7, 12, 20, 33, 54, 88, 143)  # which allocation is the first that fails
SAMPLING = Sampling(12, 1.0, 0.9, frequency_penalty=0.5, seed=3)
# Over 4 MiB in 8 bits: threads share a step where few sequences run.
MODEL = make_model(
    TINY.model_copy(update={"width": 256, "num_heads": 8, "head_width": 32, "ffn_width": 776, "num_layers": 6})
)
THREADS = native.NativeBackend.num_threads = 3
PREFILL, FIRST, SHARED = range(3)  # calls: reading; drawing with a thread for each sequence; threads that share a step
allow = ctypes.CDLL(None).allow
allow.argtypes, allow.restype = (ctypes.c_long, ctypes.c_long), ctypes.c_long


class Faults:
    """Has one call of the decoder run out of memory or threads."""

    def __init__(self) -> None:
        self.call = self.memory = self.threads = FOR_EVER
        self.num_calls, self.was_used_up = 0, False
        original = Decoder._call

        def limited(decoder: Decoder, *arguments: object) -> None:
            is_chosen = self.num_calls == self.call
            self.num_calls += 1
            if is_chosen:
                allow(self.memory, self.threads)
            try:
                original(decoder, *arguments)
            finally:
                self.was_used_up |= is_chosen and allow(FOR_EVER, FOR_EVER) == 0

        Decoder._call = limited  # type: ignore[method-assign]

    def begin(self, call: int, memory: int = FOR_EVER, threads: int = FOR_EVER) -> None:
        """That call, counted from now on, gets so much."""
        self.call, self.memory, self.threads = call, memory, threads
        self.num_calls, self.was_used_up = 0, False


def new_engine() -> Engine:
    return Engine(MODEL, make_tokenizer(), backend="native", int8=True, num_steps=4)


def prepared_engine(num: int, is_warm: bool) -> Engine:
    engine = new_engine()
    if is_warm:
        replies(engine, num, length=8)
    return engine


def requests(num: int, length: int = 40) -> list:
    return [request(random_ids(length + number).tolist(), SAMPLING) for number in range(num)]


def replies(engine: Engine, num: int, length: int = 40) -> tuple[list, int]:
    """What one session gives, and how many of its steps failed for want of memory; each is tried again."""
    num_failed = 0
    with closing(engine.open_session([80] * num)) as session:
        samples = session.submit(requests(num, length))
        while not session.finished:
            try:
                session.step()
            except MemoryError as error:
                num_failed += f"cannot compute {num} sequences together: lower num_slots" in str(error)
    return [sample.completion(0) for sample in samples], num_failed


def main() -> None:
    faults = Faults()
    for num in (2, 5):  # fewer than threads, which then share each step, and more
        wanted, _ = replies(new_engine(), num)
        # Threads share the reading of prompts too, once it is known how long that takes without.
        for call, is_warm in ((PREFILL, False), (PREFILL, True), (FIRST, False), (SHARED, False)):
            for threads in range(THREADS - 1):
                engine = prepared_engine(num, is_warm)
                faults.begin(call, threads=threads)
                assert replies(engine, num) == (wanted, 0), (num, call, threads)
            for memory in POINTS:
                engine = prepared_engine(num, is_warm)
                faults.begin(call, memory=memory)
                found, num_failed = replies(engine, num)
                assert found == wanted and num_failed in (0, 1), (num, call, memory)
                if not faults.was_used_up:
                    break
            print("call", call, "of", num, "needs fewer than", memory, "allocations")
    engine = new_engine()
    faults.begin(SHARED, memory=0)
    try:
        engine.generate([one.prompt_ids for one in requests(2)], SAMPLING)
    except MemoryError:
        pass
    else:
        raise AssertionError("it needs memory")
    [[first], [second]] = engine.generate([one.prompt_ids for one in requests(2)], SAMPLING)
    assert [first.ids, second.ids] == [one.ids for one in replies(engine, 2)[0]]
    print("fine")


if __name__ == "__main__":
    main()
