"""Batches hold every document once, no padding, and come in an order that can be taken up anywhere."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from open_exaone.data.batch import join, num_computed, pack, singles
from open_exaone.data.document import Document

units_of = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=5), min_size=1, max_size=30).map(
    lambda units: [
        [Document([100 * number + place] * length, [True] * length) for place, length in enumerate(lengths)]
        for number, lengths in enumerate(units)
    ]
)


@given(units_of, st.integers(1, 300), st.integers(1, 6))
def test_packing_keeps_every_unit_whole_in_its_order_and_the_limit(units, max_tokens, min_batches):
    batches = list(pack(units, max_tokens, min_batches))
    found = {}
    for batch in batches:
        documents = [ids.tolist() for ids in np.split(batch.ids_T, batch.starts_E[1:-1])]
        in_this_one = {}
        for unit, document in zip(batch.units_D.tolist(), documents, strict=True):
            in_this_one.setdefault(unit, []).append(document)
        assert not in_this_one.keys() & found.keys()  # no unit is split
        found |= in_this_one
        assert (np.diff(batch.units_D) != 0).sum() == len(in_this_one) - 1  # a unit's documents lie side by side
        assert batch.num_tokens <= max_tokens or len(in_this_one) == 1
        assert not batch.loss_mask_T[batch.starts_E[:-1]].any()
    assert found == {number: [list(document.ids) for document in unit] for number, unit in enumerate(units)}


groups_of = st.lists(  # (a prompt's tokens, the tokens of each reply of its units)
    st.tuples(st.integers(0, 40), st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=3), min_size=1)),
    min_size=1,
    max_size=6,
)


@given(groups_of, st.integers(1, 300), st.integers(1, 6))
def test_batches_with_shared_prompts_hold_the_same_documents(groups, max_tokens, min_batches):
    units = [
        [Document([number] * prompt + [100 * place + i] * n, [False] * prompt + [True] * n) for i, n in enumerate(unit)]
        for number, (prompt, replies) in enumerate(groups)
        for place, unit in enumerate(replies)
    ]
    found = {}
    for batch in pack(units, max_tokens, min_batches):
        segments = np.split(batch.ids_T, batch.starts_E[1:-1])
        prompts = [segments[prefix].tolist() if prefix >= 0 else [] for prefix in batch.prefix_J]
        for place, unit in enumerate(batch.units_D.tolist()):
            found.setdefault(unit, []).append(prompts[place] + segments[place].tolist())
        assert (batch.prefix_J[len(batch.units_D) :] == -1).all()
        assert len(set(map(tuple, filter(None, prompts)))) == len(segments) - len(
            batch.units_D
        )  # each stands there once
        assert batch.num_tokens <= max_tokens or len(set(batch.units_D.tolist())) == 1
        assert batch.loss_mask_T.sum() == len(batch.learned_documents_M)
    assert found == {number: [list(document.ids) for document in unit] for number, unit in enumerate(units)}
    assert join(units).num_tokens <= num_computed(units)


def test_a_group_stays_together_and_its_prompt_counts_once():
    units = singles(
        Document([number] * 50 + [place] * 10, [False] * 50 + [True] * 10) for number in range(4) for place in range(8)
    )
    batches = list(pack(units, 4096, 4))
    assert [batch.num_tokens for batch in batches] == [49 + 8 * 11] * 4
    assert num_computed(units) == join(units).num_tokens == 4 * (49 + 8 * 11)
    assert len(list(pack(units, 2 * (49 + 8 * 11)))) == 2
    assert [batch.num_tokens for batch in pack(units[:8], 4096, 2)] == [49 + 4 * 11] * 2


def test_packing_leaves_little_room_where_documents_are_ragged():
    lengths = np.exp(np.random.default_rng(0).uniform(np.log(16), np.log(2048), 400)).astype(int)
    batches = list(pack(singles(Document(np.ones(n, int), np.ones(n, bool)) for n in lengths), 4096))
    assert sum(batch.num_tokens for batch in batches[:-1]) > 0.98 * 4096 * (len(batches) - 1)


def test_shares_are_as_many_as_asked_for_and_of_like_size():
    lengths = np.random.default_rng(0).integers(90, 180, 16).tolist()
    units = singles(Document(np.ones(n, int), np.ones(n, bool)) for n in lengths)
    sizes = [batch.num_tokens for batch in pack(units, 4096, 4)]
    assert len(sizes) == 4 and max(sizes) - min(sizes) < 90
    assert len(list(pack(units, 4096, 20))) == 16 and len(list(pack(units, 300, 4))) > 4


def test_learned_tokens_bring_their_document_and_log_probabilities():
    documents = [
        Document([1, 2, 3], [False, True, True], 0.5, sampler_logprobs=[-1.0, -2.0]),
        Document([4, 5], [True, True], -0.5, sampler_logprobs=[-3.0, -4.0]),  # nothing predicts its first token
        Document([6], [False]),
        Document([7, 8], [False, True]),
    ]
    batch = join([documents[:2], documents[2:]])
    assert batch.starts_E.tolist() == [0, 3, 5, 6, 8]
    assert batch.ids_T[batch.loss_mask_T].tolist() == [2, 3, 5, 8]
    assert batch.learned_documents_M.tolist() == [0, 0, 1, 3]
    assert batch.sampler_logprobs_M is None and batch.old_logprobs_M is None  # not all of them bring some
    assert join(singles(documents[:2])).sampler_logprobs_M.tolist() == [-1.0, -2.0, -4.0]
    assert batch.advantages_D.tolist() == [0.5, -0.5, 0.0, 0.0]
    assert batch.units_D.tolist() == [0, 0, 1, 1] and batch.reference_D is None
    referenced = [replace(document, reference_logprob=-1.5 * row) for row, document in enumerate(documents)]
    assert join(singles(referenced)).reference_D.tolist() == [0.0, -1.5, -3.0, -4.5]
    assert join([[referenced[0], documents[1]]]).reference_D is None
