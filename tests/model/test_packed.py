"""Packed documents compute what each computes alone: logits, losses, gradients."""

import pytest
import torch

from doubles import SHAPES, make_model, random_ids
from open_exaone.data.batch import join, pack, singles
from open_exaone.data.document import Document
from open_exaone.learn.cross_entropy import CrossEntropy, linear_cross_entropy
from open_exaone.model import attention
from open_exaone.model.config import LayerKind
from open_exaone.model.packed import Packed, rounded
from open_exaone.train.forward import learned_states

LENGTHS = (9, 1, 34, 6, 2, 17, 9)
shapes = pytest.mark.parametrize("shape", SHAPES)


def documents():
    return [
        Document(random_ids(length, seed=length + 7 * place).tolist(), [token % 3 > 0 for token in range(length)])
        for place, length in enumerate(LENGTHS)
    ]


def loss_and_gradients(shape, batches, *, recomputes=False):
    model = make_model(SHAPES[shape])
    model.model.recomputes = recomputes
    total = 0.0
    for batch in batches:
        learned = learned_states(model, batch)
        loss, _ = linear_cross_entropy(learned.x_MD, model.lm_head.weight, learned.ids_M, 29.0, CrossEntropy())
        loss.backward()
        total += float(loss.detach())
    return total, {name: weight.grad for name, weight in model.named_parameters()}


@shapes
@torch.no_grad()
def test_packed_logits_are_those_of_each_document_alone(shape):
    model = make_model(SHAPES[shape])
    texts = [torch.tensor(document.ids) for document in documents()]
    starts = torch.tensor([0, *LENGTHS]).cumsum(0).int()
    packed = model.head(model.model(torch.cat(texts)[None], packed=Packed(starts, torch.device("cpu"))))[0]
    torch.testing.assert_close(packed, torch.cat([model(ids[None])[0] for ids in texts]), rtol=1e-5, atol=1e-5)


@shapes
def test_packed_losses_and_gradients_are_those_of_each_document_alone(shape):
    alone = loss_and_gradients(shape, [join([[document]]) for document in documents()])
    for batches in (
        [join(singles(documents()))],
        list(pack(singles(documents()), 40)),
        [join(singles(documents()[::-1]))],
    ):
        found = loss_and_gradients(shape, batches)
        assert found[0] == pytest.approx(alone[0], rel=1e-5)
        for name, gradient in found[1].items():
            size = float(alone[1][name].abs().max())
            torch.testing.assert_close(gradient, alone[1][name], rtol=1e-5, atol=1e-5 * max(size, 1e-3))


def samples(groups, seed=0):
    """Units of documents behind shared prompts, given as (tokens of a prompt, tokens of each reply)."""
    units = []
    for number, (prompt_tokens, replies) in enumerate(groups):
        prompt = random_ids(prompt_tokens, seed=seed + 100 * number).tolist()
        for place, length in enumerate(replies):
            ids = [*prompt, *random_ids(length, seed=seed + 100 * number + place + 1).tolist()]
            units.append([Document(ids, [False] * prompt_tokens + [True] * length)])
    return units


GROUPS = ((30, (5, 40, 1)), (1, (4, 6)), (2, (3, 3)), (9, (12,)), (17, (20, 8)))


@shapes
def test_a_shared_prompt_gives_the_losses_and_gradients_of_each_document_alone(shape):
    units = samples(GROUPS)
    alone = loss_and_gradients(shape, [join([unit]) for unit in units])
    for batches in ([join(units)], list(pack(units, 60)), list(pack(units, 1000, 3))):
        assert sum(batch.num_tokens for batch in batches) < sum(len(unit[0].ids) for unit in units)
        found = loss_and_gradients(shape, batches)
        assert found[0] == pytest.approx(alone[0], rel=1e-5)
        for name, gradient in found[1].items():
            size = float(alone[1][name].abs().max())
            torch.testing.assert_close(gradient, alone[1][name], rtol=1e-5, atol=1e-5 * max(size, 1e-3))


@shapes
def test_recomputing_activations_changes_nothing(shape):
    kept, made_again = (
        loss_and_gradients(shape, [join(singles(documents()))], recomputes=way) for way in (False, True)
    )
    assert kept[0] == made_again[0]
    assert all(torch.equal(kept[1][name], made_again[1][name]) for name in kept[1])


@torch.no_grad()
def test_a_document_in_the_row_before_is_not_seen():
    """The negative control: joined into one document, the same tokens do see each other."""
    model = make_model()
    texts = [torch.tensor(document.ids) for document in documents()[2:4]]
    starts = torch.tensor([0, len(texts[0]) + len(texts[1])], dtype=torch.int32)
    joined = model.model(torch.cat(texts)[None], packed=Packed(starts, torch.device("cpu")))[0]
    apart = model.model(texts[1][None])[0]
    assert (joined[len(texts[0]) :] - apart).abs().max() > 1e-2


@pytest.mark.parametrize("kind", LayerKind)
@torch.no_grad()
def test_the_gpus_mask_shows_what_the_kernel_sees(kind, monkeypatch):
    """flex_attention is compiled on a GPU; here it runs as it comes."""
    from torch.nn.attention.flex_attention import flex_attention

    monkeypatch.setattr(attention, "compiled_flex_attention", lambda: flex_attention)
    window = 5 if kind is LayerKind.LOCAL else None
    prefix = torch.tensor([2, -1, -1, 2, -1, 4, -1], dtype=torch.int32)
    packed = Packed(torch.tensor([0, *LENGTHS]).cumsum(0).int(), torch.device("cpu"), prefix)
    q, k, v = (torch.randn(1, sum(LENGTHS), heads, 16) for heads in (4, 2, 2))
    expected = attention.attend_uncached(q, k, v, packed, window)
    found = attention.attend_uncached(q, k, v, packed.block_mask(kind, window), window)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_lengths_are_made_up_by_little_and_come_again():
    cpu = torch.device("cpu")
    assert all(0 <= rounded(n, cpu) - n <= max(15, n // 64) for n in range(5000))
    assert len({rounded(n, cpu) for n in range(2048, 4096)}) <= 65


def test_positions_begin_anew_or_go_on_from_the_prefix():
    packed = Packed(torch.tensor([0, 3, 3, 5], dtype=torch.int32), torch.device("cpu"))
    assert packed.positions_T.tolist() == [0, 1, 2, 0, 1]
    assert packed.segments_T.tolist() == [0, 0, 0, 2, 2]
    continued = Packed(packed.starts_E, packed.device, torch.tensor([2, 2, -1], dtype=torch.int32))
    assert continued.positions_T.tolist() == [2, 3, 4, 0, 1]
