"""Blocks, forks, admission and preemption, without a model: a backend of strings that checks what its blocks hold."""

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles import make_tokenizer, request
from open_exaone.base.records import Sampling, StopReason
from open_exaone.engine.backend import Tokens
from open_exaone.engine.blocks import BLOCK, GLOBAL, LOCAL, Blocks
from open_exaone.engine.request import check_ids, in_groups, prompt_of, random_stream
from open_exaone.engine.scheduler import CHUNK_TOKENS, Scheduler
from open_exaone.engine.session import Session

END = 7


class Notebook:
    """A backend whose "keys" are token ids: each next token is a hash of all ids, read through the table's blocks."""

    def __init__(self, window=None, most_steps=4):
        self._most_steps, self.window = most_steps, window
        self.num_read = 0
        self.most_held = 0

    def most_steps(self, num_samples):
        return self._most_steps

    def refresh(self):
        return False

    def make_pools(self, sizes):
        self.kinds = [kind for kind, size in enumerate(sizes) if size]
        self.content = [{} for _ in sizes]

    def copy_block(self, kind, source, target):
        self.content[kind][target] = dict(self.content[kind].get(source, {}))

    def _write(self, table, position, token):
        for kind in self.kinds:
            block = int(table.arrays[kind][position // BLOCK])
            assert block >= 0
            if position % BLOCK == 0:
                self.content[kind][block] = {}
            self.content[kind][block][position % BLOCK] = token
        self.num_read += 1

    def _seen(self, table, length):
        """The last ids of a sequence, as each kind of layer sees them."""
        found = []
        for kind in self.kinds:
            start = max(0, length - self.window) if kind == LOCAL else 0
            found.append(
                [self.content[kind][int(table.arrays[kind][p // BLOCK])][p % BLOCK] for p in range(start, length)]
            )
        return found

    def prefill(self, chunks):
        for chunk in chunks:
            for offset, token in enumerate(chunk.ids):
                self._write(chunk.prompt.table, chunk.prompt.table.length + offset, token)

    def decode(self, samples, num_steps):
        return [self._draw(sample, steps) for sample, steps in zip(samples, num_steps, strict=True)]

    def _draw(self, sample, steps):
        ids, drawn = list(sample.all_ids()), []
        for _ in range(steps):
            length = sample.table.length + len(drawn)
            self._write(sample.table, length, ids[-1])
            for kind, seen in zip(self.kinds, self._seen(sample.table, length + 1), strict=True):
                assert seen == (ids[-self.window :] if kind == LOCAL else ids)
            drawn.append(next_token(ids, sample.request.index))
            ids.append(drawn[-1])
            if drawn[-1] == END:
                break
        values = [0.0] * len(drawn)
        return Tokens(drawn, values, values, True, False)

    def forget(self, sample):
        pass


def next_token(ids, index):
    return random.Random(repr((ids, index))).randrange(40)


def expected(asked):
    ids, num = list(prompt_of(asked)), asked.sampling.max_new_tokens
    for _ in range(num):
        ids.append(next_token(ids, asked.index))
        if ids[-1] == END:
            break
    return ids[len(prompt_of(asked)) :]


def open_session(sizes, window=None, num_slots=6, most_steps=4, **options):
    return Session(
        Notebook(window, most_steps),
        sizes,
        window=window,
        num_slots=num_slots,
        tokenizer=make_tokenizer(),
        end_ids=frozenset([END]),
        thoughts=lambda: None,
        **options,
    )


def requests_of(groups, length):
    return [
        request([*range(100, 100 + prompt_length), number], Sampling(max_new_tokens=length), index)
        for number, (prompt_length, num_samples) in enumerate(groups)
        for index in range(num_samples)
    ]


def held(session):
    return [pool.size - pool.num_free for pool in session.scheduler.blocks.used]


GROUPS = st.lists(st.tuples(st.integers(0, 70), st.integers(1, 5)), min_size=1, max_size=6)
KINDS = st.sampled_from([(None, (1, 0)), (20, (1, 1)), (5, (0, 1))])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(GROUPS, KINDS, st.integers(1, 7), st.integers(1, 9), st.floats(0, 1), st.integers(1, 60))
def test_every_sample_gets_its_tokens_however_little_memory_there_is(
    groups, kinds, num_slots, most_steps, plenty, length
):
    window, has = kinds
    asked = requests_of(groups, length)
    blocks = Blocks(has, window)
    longest = max(len(prompt_of(one)) + length for one in asked)
    least = dict(zip([pool.kind for pool in blocks.used], blocks.needed(longest), strict=True))
    sizes = [least.get(kind, 0) and least[kind] + int(plenty * 60) for kind in (GLOBAL, LOCAL)]
    session = open_session(sizes, window, num_slots, most_steps)
    samples, done = session.submit(asked), []
    for _ in range(100_000):
        if session.finished:
            break
        _, finished = session.step()
        done += finished
        assert len(session.scheduler.running) <= num_slots
    assert sorted(sample.place for sample in done) == list(range(len(asked)))
    assert [sample.ids for sample in samples] == [expected(one) for one in asked]
    assert held(session) == [0] * len(session.scheduler.blocks.used)


@settings(max_examples=40, deadline=None)
@given(GROUPS, st.randoms(use_true_random=False), st.booleans())
def test_samples_join_and_leave_while_others_run(groups, chance, is_hybrid):
    window, sizes = (20, (30, 12)) if is_hybrid else (None, (30, 0))
    session = open_session(sizes, window, num_slots=3)
    waiting = [requests_of([group], 40) for group in groups]
    kept, cancelled = [], []
    while waiting or not session.finished:
        if waiting and chance.random() < 0.5:
            asked = waiting.pop()
            kept += zip(asked, session.submit(asked), strict=True)
        session.step()
        if kept and chance.random() < 0.3:
            place = chance.randrange(len(kept))
            if kept[place][1].stop is None:
                cancelled.append(kept.pop(place)[1])
                session.cancel(cancelled[-1])
    assert all(sample.ids == expected(asked) for asked, sample in kept)
    assert all(sample.stop is None for sample in cancelled)
    assert held(session) == [0] * len(session.scheduler.blocks.used)


def test_first_tokens_are_drawn_in_short_steps():
    session, many = open_session((100, 0), first_steps=1), requests_of([(length, 1) for length in range(30)], 40)
    asked = [one for one in many if len(expected(one)) > 10][:2]
    samples = session.submit(asked[:1])
    lengths = []
    for number in range(4):
        session.step()
        samples += session.submit(asked[1:]) if number == 1 else []
        lengths.append([len(sample.ids) for sample in samples])
    assert lengths == [[1], [5, 0], [6, 1], [10, 5]]
    assert [sample.ids for sample in samples] == [expected(one)[:num] for one, num in zip(asked, (10, 5), strict=True)]


LONG = st.lists(st.integers(1500, 4000), min_size=1, max_size=5)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(LONG, st.integers(1, 700), st.integers(0, 8))
def test_a_short_prompt_does_not_wait_for_long_ones(lengths, length, num_before):
    session = open_session((3000, 0), num_slots=9)
    long = session.submit(requests_of([(number, 2 - place % 2) for place, number in enumerate(lengths)], 2))
    for _ in range(num_before):
        session.step()
    [short] = session.submit([request([7] * length, Sampling(max_new_tokens=2))])
    # Half of each step is the shortest's; of the others it waits for those alone that have no more left than it.
    for _ in range(int(1 + (1 + len(lengths)) * length / (CHUNK_TOKENS // 2))):
        session.step()
    assert short.ids
    while not session.finished:
        session.step()
    assert [sample.ids for sample in (*long, short)] == [expected(one.request) for one in (*long, short)]


def test_a_long_prompt_does_not_wait_for_short_ones():
    session = open_session((3000, 0), num_slots=8)
    [long] = session.submit([request(range(100, 6100), Sampling(max_new_tokens=2))])
    for number in range(6000 // (CHUNK_TOKENS // 2) + 1):
        session.submit([request([number] * 700, Sampling(max_new_tokens=1)) for _ in range(2)])
        session.step()
    assert long.ids


def test_a_prompt_is_read_once_for_its_group_and_again_only_in_part():
    session = open_session((100, 0), num_slots=8)
    prompt = list(range(100, 170))

    def read(prompt, num_samples):
        session._backend.num_read = 0
        samples = session.submit([request(prompt, Sampling(4), index) for index in range(num_samples)])
        while not session.finished:
            session.step()
        return session._backend.num_read - sum(len(sample.ids) for sample in samples)

    assert read(prompt, 6) == 69  # all but the last, which each sample reads itself
    assert read(prompt, 2) == 69 % BLOCK
    assert read([*prompt[:40], *range(90)], 1) == 129 - 2 * BLOCK
    session.scheduler.blocks.forget_all()
    assert read(prompt, 1) == 69


def test_of_what_is_longer_than_may_be_remembered_the_beginning_stays():
    session, long = open_session((100, 0)), request(range(1000, 1320), Sampling(max_new_tokens=1))
    for num_kept in (0, 100 // 8):
        session._backend.num_read = 0
        session.submit([long])
        while not session.finished:
            session.step()
        assert session._backend.num_read == 320 - num_kept * BLOCK


def test_prompts_that_are_forgotten_leave_nothing_behind():
    session = open_session((40, 0))
    session.submit([request(range(number, number + 100), Sampling(max_new_tokens=1)) for number in range(50)])
    while not session.finished:
        session.step()

    def num_below(entry):
        return sum(1 + num_below(child) for child in entry.children.values())

    assert 0 < num_below(session.scheduler.blocks.root) <= 40 // 8


def test_keys_of_old_weights_are_not_remembered():
    """Neither what was remembered, nor what runs while the weights change."""
    session, asked = open_session((100, 0)), request(range(100, 170), Sampling(max_new_tokens=20))
    session.submit([asked])
    session.step()
    session._backend.refresh = lambda: True
    session.refresh()
    while not session.finished:
        session.step()
    session._backend.num_read = 0
    [again] = session.submit([asked])
    while not session.finished:
        session.step()
    assert session._backend.num_read == 69 + len(again.ids)


def test_a_session_gives_its_backend_back_once():
    given = []
    session = open_session((10, 0), on_close=given.append)
    session.close()
    session.close()
    assert given == [session._backend]


def test_a_window_lets_blocks_go():
    session = open_session((40, 40), window=32, num_slots=1)
    session.submit([request(range(start, 400), Sampling(max_new_tokens=200)) for start in range(100, 130)])
    most = 0
    while not session.finished:
        session.step()
        blocks = session.scheduler.blocks
        most = max(most, sum(len({*s.table.arrays[LOCAL].tolist()} - {-1}) for s in session.scheduler.running))
    assert 3 <= most <= blocks.needed(500)[1]


def test_neighbours_with_one_prompt_form_a_group():
    few, many = Sampling(max_new_tokens=5), Sampling(max_new_tokens=9, temperature=0)
    asked = [((1, 2), 0, few), ((1, 2), 1, few), ((1, 2), 5, many), ((1, 2), 0, few), ((3,), 1, few), ((1, 2), 2, few)]
    groups = in_groups(request(prompt, sampling, index) for prompt, index, sampling in asked)
    assert [[sample.place for sample in group.samples] for group in groups] == [[0, 1, 2], [3], [4], [5]]
    assert [group.prompt_ids for group in groups] == [(1, 2), (1, 2), (3,), (1, 2)]


def test_a_random_stream_is_drawn_when_it_is_first_needed():
    """Thousands of samples that wait, each of thousands of tokens, must not take gigabytes."""
    [group] = in_groups([request([1], Sampling(max_new_tokens=4, seed=7), 3)])
    [sample] = group.samples
    assert sample._uniforms_T is None
    assert sample.uniforms_T.tolist() == random_stream(sample.request, 4).tolist()
    for _ in range(4):
        sample.append(9, 0.0, 0.0, frozenset())
    assert sample.stop is StopReason.LENGTH


@pytest.mark.parametrize("shape", [(80, 1), (1, 80), (16, 5)])
def test_work_for_each_request_does_not_grow_with_their_number(shape):
    """Counted in lines of Python, not timed: checks, grouping, admission."""

    def lines_a_request(num_prompts, num_samples):
        num_lines = 0

        def count(frame, event, argument):
            nonlocal num_lines
            num_lines += event == "line" and "engine" in frame.f_code.co_filename
            return count

        requests = [
            request([5, place], Sampling(4), index) for place in range(num_prompts) for index in range(num_samples)
        ]
        before = sys.gettrace()
        sys.settrace(count)
        try:
            check_ids(requests, 10**6, "request")
            scheduler = Scheduler(Blocks((1000, 0), None), 8, lambda *copied: None)
            scheduler.submit(in_groups(requests))
            while not scheduler.finished:
                scheduler.read(scheduler.chunks())
                for sample in scheduler.enter():
                    scheduler.release(sample)
        finally:
            sys.settrace(before)
        return num_lines / len(requests)

    num_prompts, num_samples = shape
    few = lines_a_request(num_prompts, num_samples)
    assert lines_a_request(4 * num_prompts, num_samples) < 1.2 * few
    assert lines_a_request(num_prompts, 4 * num_samples) < 1.2 * few
