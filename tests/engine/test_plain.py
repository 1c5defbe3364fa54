"""What plain torch computes together: padding must not take memory that nobody has counted."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doubles import make_model, make_tokenizer, random_ids, request
from open_exaone.base.records import Sampling
from open_exaone.engine.engine import Engine
from open_exaone.engine.plain import FEW_CHUNKS, PlainBackend, alike
from open_exaone.engine.scheduler import CHUNK_TOKENS, Chunk


@given(st.lists(st.tuples(st.integers(1, CHUNK_TOKENS), st.sampled_from([0, 40, 30_000])), min_size=1, max_size=300))
def test_chunks_that_are_read_together_are_padded_little(sizes):
    chunks = [Chunk(SimpleNamespace(table=SimpleNamespace(length=length)), range(num)) for num, length in sizes]
    parts = alike(chunks)
    assert sorted(map(id, chunks)) == sorted(id(chunk) for part in parts for chunk in part)
    for part in parts:
        ends = [chunk.prompt.table.length + len(chunk.ids) for chunk in part]
        assert len(part) * max(len(chunk.ids) for chunk in part) <= CHUNK_TOKENS
        assert len(part) * max(ends) <= max(2 * sum(ends), FEW_CHUNKS * CHUNK_TOKENS)


def test_prompts_of_one_length_are_read_at_once():
    chunks = [Chunk(SimpleNamespace(table=SimpleNamespace(length=0)), range(16)) for _ in range(CHUNK_TOKENS // 16)]
    assert [len(part) for part in alike(chunks)] == [CHUNK_TOKENS // 16]


@pytest.mark.parametrize("num_short", [0, 30])
def test_short_prompts_are_not_padded_to_a_long_one(monkeypatch, num_short):
    """Nor are the keys and values of short replies, where that saves more than the weights cost."""
    model = make_model(make_model().config.model_copy(update={"max_positions": 2048}))
    monkeypatch.setattr(PlainBackend, "_cost", lambda backend, rows, lengths: len(rows) * lengths[rows[-1]])
    computed = []
    forward = model.model.forward

    def counting(ids_BT, positions_BT, *, cache):
        [blocks_BN, *_] = cache.tables[next(iter(cache.tables))]
        computed.append((ids_BT.numel(), blocks_BN.numel()))
        return forward(ids_BT, positions_BT, cache=cache)

    engine = Engine(model, make_tokenizer(), backend="plain")
    requests = [request(random_ids(length).tolist(), Sampling(4, 0.0)) for length in (900, *[9] * num_short)]
    alone = [dict(engine.stream([one]))[0].ids for one in requests[:2]]
    monkeypatch.setattr(model.model, "forward", counting)
    found = dict(engine.stream(requests))
    assert [found[place].ids for place in range(len(alone))] == alone
    assert max(ids for ids, _ in computed) <= CHUNK_TOKENS
    assert max(blocks for _, blocks in computed) <= 2 * (57 + num_short)
