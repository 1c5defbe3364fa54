"""Batches hold every document once, no padding, and come in an order that can be taken up anywhere."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from doubles import make_tokenizer
from open_exaone.base.records import Problem
from open_exaone.data.batch import join, pack, singles, step_indices
from open_exaone.data.document import Document, prompt_ids, worked_documents

units_of = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=5), min_size=1, max_size=30).map(
    lambda units: [
        [Document([100 * number + place] * length, [True] * length) for place, length in enumerate(lengths)]
        for number, lengths in enumerate(units)
    ]
)


@given(units_of, st.integers(1, 300))
def test_packing_keeps_every_unit_whole_in_its_order_and_the_limit(units, max_tokens):
    batches = list(pack(units, max_tokens))
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


def test_packing_leaves_little_room_where_documents_are_ragged():
    lengths = np.exp(np.random.default_rng(0).uniform(np.log(16), np.log(2048), 400)).astype(int)
    batches = list(pack(singles(Document(np.ones(n, int), np.ones(n, bool)) for n in lengths), 4096))
    assert sum(batch.num_tokens for batch in batches[:-1]) > 0.98 * 4096 * (len(batches) - 1)


def test_learned_tokens_bring_their_document_and_old_logprobs():
    documents = [
        Document([1, 2, 3], [False, True, True], 0.5, [-1.0, -2.0]),
        Document([4, 5], [True, True], -0.5, [-3.0, -4.0]),  # nothing predicts its first token
        Document([6], [False]),
        Document([7, 8], [False, True]),
    ]
    batch = join([documents[:2], documents[2:]])
    assert batch.starts_E.tolist() == [0, 3, 5, 6, 8]
    assert batch.ids_T[batch.loss_mask_T].tolist() == [2, 3, 5, 8]
    assert batch.learned_documents_M.tolist() == [0, 0, 1, 3]
    assert batch.old_logprobs_M.tolist() == [-1.0, -2.0, -4.0, 0.0]
    assert batch.advantages_D.tolist() == [0.5, -0.5, 0.0, 0.0]
    assert batch.units_D.tolist() == [0, 0, 1, 1] and batch.reference_D is None
    referenced = [replace(document, reference_logprob=-1.5 * row) for row, document in enumerate(documents)]
    assert join(singles(referenced)).reference_D.tolist() == [0.0, -1.5, -3.0, -4.5]
    assert join([[referenced[0], documents[1]]]).reference_D is None


@given(st.integers(1, 30), st.integers(1, 12), st.integers(0, 9))
def test_each_epoch_is_a_permutation(num_documents, per_step, seed):
    num_steps = -(-3 * num_documents // per_step)
    indices = [index for step in range(num_steps) for index in step_indices(num_documents, per_step, seed, step)]
    epochs = [indices[start : start + num_documents] for start in range(0, 3 * num_documents, num_documents)]
    assert all(sorted(epoch) == list(range(num_documents)) for epoch in epochs)


def test_a_worked_document_begins_with_its_prompt_and_learns_the_reply():
    tokenizer = make_tokenizer()
    problem = Problem("p", "t", "en", "How much is 2 + 3?", "5", "exact", thought="2+3=5", reply=r"It is \boxed{5}.")
    for thinking in (True, False):
        [prompt] = prompt_ids([problem], tokenizer, thinking=thinking)
        [document] = worked_documents([problem], tokenizer, thinking=thinking, learn_prompts=False, max_tokens=100)
        assert document.ids[: len(prompt)] == prompt
        assert not any(document.loss_mask[: len(prompt)])
        learned = [token for token, kept in zip(document.ids, document.loss_mask, strict=True) if kept]
        assert learned[-1] == tokenizer.end_id
        reply = tokenizer.split(learned, thinking=thinking)
        assert (reply.thought, reply.answer) == ("2+3=5" if thinking else "", problem.reply)
        [whole] = worked_documents([problem], tokenizer, thinking=thinking, learn_prompts=True, max_tokens=100)
        assert np.all(whole.loss_mask) and whole.ids == document.ids
