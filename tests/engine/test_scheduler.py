"""Slots and queue, without tensors."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from doubles import request
from open_exaone.base.records import Sampling, StopReason
from open_exaone.engine.request import check_ids, in_groups, random_stream
from open_exaone.engine.scheduler import Scheduler


@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), max_size=8),
    st.integers(1, 6),
    st.booleans(),
)
def test_every_sample_runs_once_and_slots_are_never_shared(groups_of_lengths, num_slots, compacts):
    sampling = Sampling(max_new_tokens=5)
    groups = in_groups(
        request([prompt], sampling, index)
        for prompt, lengths in enumerate(groups_of_lengths)
        for index in range(len(lengths))
    )
    lengths = {
        id(sample): length
        for group, wanted in zip(groups, groups_of_lengths, strict=True)
        for sample, length in zip(group.samples, wanted, strict=True)
    }
    scheduler = Scheduler(groups, num_slots)
    started, entered = [], []
    while not scheduler.finished:
        started += scheduler.start_groups()
        for group, slots in scheduler.admit():
            assert any(group is other for other in started)
            entered += [scheduler.slots[slot] for slot in slots]
        if scheduler.has_waiting:
            assert not scheduler.free_slots  # nobody waits while a slot is free
        elif compacts:
            scheduler.compact()
        for slot, sample in scheduler.running:
            sample.ids.append(0)
            if len(sample.ids) == lengths[id(sample)]:
                sample.stop = StopReason.END
                scheduler.release(slot)
    assert len(entered) == len({id(sample) for sample in entered}) == len(lengths)
    assert [group.prompt_ids for group in started] == [group.prompt_ids for group in groups]


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
    drawn = []
    for _ in range(4):
        drawn.append(sample.uniform)
        sample.append(9, 0.0, 0.0, frozenset())
    assert drawn == random_stream(sample.request, 4).tolist()
    assert sample.stop is StopReason.LENGTH


def test_work_for_each_request_does_not_grow_with_their_number():
    """Counted in lines of Python, not timed: checks, grouping, admission."""

    def lines_a_request(num_prompts, num_samples):
        num_lines = 0

        def count(frame, event, argument):
            nonlocal num_lines
            num_lines += event == "line" and "engine" in frame.f_code.co_filename
            return count

        sampling = Sampling(4)
        requests = [
            request([5, place], sampling, index) for place in range(num_prompts) for index in range(num_samples)
        ]
        before = sys.gettrace()
        sys.settrace(count)
        try:
            check_ids(requests, 10**6, "request")
            scheduler = Scheduler(in_groups(requests), num_slots=8)
            while not scheduler.finished:
                scheduler.start_groups()
                for slot in [slot for _, slots in scheduler.admit() for slot in slots]:
                    scheduler.release(slot)
        finally:
            sys.settrace(before)
        return num_lines / len(requests)

    for num_prompts, num_samples in ((80, 1), (1, 80), (16, 5)):
        few = lines_a_request(num_prompts, num_samples)
        assert lines_a_request(4 * num_prompts, num_samples) < 1.2 * few
        assert lines_a_request(num_prompts, 4 * num_samples) < 1.2 * few
