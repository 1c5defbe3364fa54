"""Batches hold every document once, no padding, and come in an order that can be taken up anywhere."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from doubles import make_tokenizer
from open_exaone.base.records import Problem
from open_exaone.data.batch import join, pack, step_indices
from open_exaone.data.document import Document, prompt_ids, worked_documents

documents_of = st.lists(st.integers(1, 60), min_size=1, max_size=40).map(
    lambda lengths: [Document([number + 1] * length, [True] * length) for number, length in enumerate(lengths)]
)


@given(documents_of, st.integers(1, 300))
def test_packing_keeps_every_document_whole_and_the_limit(documents, max_tokens):
    batches = list(pack(documents, max_tokens))
    found = [ids.tolist() for batch in batches for ids in np.split(batch.ids_T, batch.starts_E[1:-1])]
    assert sorted(found) == sorted(list(document.ids) for document in documents)
    assert all(batch.num_tokens <= max_tokens or len(batch.starts_E) == 2 for batch in batches)
    assert all(not batch.loss_mask_T[batch.starts_E[:-1]].any() for batch in batches)


def test_packing_leaves_little_room_where_documents_are_ragged():
    lengths = np.exp(np.random.default_rng(0).uniform(np.log(16), np.log(2048), 400)).astype(int)
    batches = list(pack([Document(np.ones(n, int), np.ones(n, bool)) for n in lengths], 4096))
    assert sum(batch.num_tokens for batch in batches[:-1]) > 0.98 * 4096 * (len(batches) - 1)


def test_learned_tokens_bring_their_document_and_old_logprobs():
    documents = [
        Document([1, 2, 3], [False, True, True], 0.5, [-1.0, -2.0]),
        Document([4, 5], [True, True], -0.5, [-3.0, -4.0]),  # nothing predicts its first token
        Document([6], [False]),
        Document([7, 8], [False, True]),
    ]
    batch = join(documents)
    assert batch.starts_E.tolist() == [0, 3, 5, 6, 8]
    assert batch.ids_T[batch.loss_mask_T].tolist() == [2, 3, 5, 8]
    assert batch.learned_documents_M.tolist() == [0, 0, 1, 3]
    assert batch.old_logprobs_M.tolist() == [-1.0, -2.0, -4.0, 0.0]
    assert batch.advantages_D.tolist() == [0.5, -0.5, 0.0, 0.0]


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
