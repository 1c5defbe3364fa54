"""Batches hold every document once, with little padding, and in an order that can be taken up anywhere."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from doubles import make_tokenizer
from open_exaone.base.records import Problem
from open_exaone.data.batch import fold, stack, step_indices
from open_exaone.data.document import Document, prompt_ids, worked_documents

documents_of = st.lists(st.integers(1, 60), min_size=1, max_size=40).map(
    lambda lengths: [Document([number + 1] * length, [True] * length) for number, length in enumerate(lengths)]
)


@given(documents_of, st.integers(1, 300))
def test_fold_keeps_every_document_and_the_limit(documents, max_tokens):
    batches = list(fold(documents, max_tokens))
    rows = [row[row > 0].tolist() for batch in batches for row in batch.ids_BT]
    assert sorted(rows) == sorted(list(document.ids) for document in documents)
    assert all(batch.ids_BT.size <= max_tokens or len(batch.ids_BT) == 1 for batch in batches)
    assert sum(batch.num_tokens for batch in batches) == sum(len(document.ids) for document in documents)


def test_old_logprobs_stand_under_their_tokens():
    batch = stack([Document([1, 2, 3], [False, True, True], 0.5, [-1.0, -2.0]), Document([4], [False])])
    assert batch.old_logprobs_BT.tolist() == [[0, -1, -2], [0, 0, 0]]
    assert batch.is_learned_BT.tolist() == [[False, True, True], [False] * 3]
    assert batch.advantages_B.tolist() == [0.5, 0.0]


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
        assert not any(document.is_learned[: len(prompt)])
        learned = [token for token, kept in zip(document.ids, document.is_learned, strict=True) if kept]
        assert learned[-1] == tokenizer.end_id
        reply = tokenizer.split(learned, thinking=thinking)
        assert (reply.thought, reply.answer) == ("2+3=5" if thinking else "", problem.reply)
        [whole] = worked_documents([problem], tokenizer, thinking=thinking, learn_prompts=True, max_tokens=100)
        assert np.all(whole.is_learned) and whole.ids == document.ids
