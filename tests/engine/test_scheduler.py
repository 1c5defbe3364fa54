"""Slots and queue, without tensors."""

from hypothesis import given
from hypothesis import strategies as st

from open_exaone.base.records import Sampling, StopReason
from open_exaone.engine.request import Group
from open_exaone.engine.scheduler import Scheduler


@given(
    st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), max_size=8),
    st.integers(1, 6),
    st.booleans(),
)
def test_every_sample_runs_once_and_slots_are_never_shared(groups_of_lengths, num_slots, compacts):
    groups = [
        Group.make(index, [index], Sampling(max_new_tokens=5, num_samples=len(lengths)))
        for index, lengths in enumerate(groups_of_lengths)
    ]
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
