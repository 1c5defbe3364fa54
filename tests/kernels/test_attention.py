"""Attention over packed documents: parity with float64, nothing between documents, the same bits on any threads."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels.parity import TOLERANCES, assert_same, distance, documents, draw, shared_prompts
from open_exaone.kernels import attention, reference

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def tensors(T: int, N: int, K: int, H: int, dtype: torch.dtype) -> list[torch.Tensor]:
    return [draw(T, heads, H, dtype=dtype, seed=seed) for seed, heads in enumerate((N, K, K))]


def gradients(
    inputs: list[torch.Tensor], starts: torch.Tensor, window: int | None = None, prefix: torch.Tensor | None = None
) -> list[torch.Tensor]:
    """The output and the three gradients."""
    out = attention(*inputs, starts, window, prefix)
    return [out.detach(), *torch.autograd.grad(out, inputs, torch.ones_like(out).cumsum(0) / len(out))]


@DTYPES
@pytest.mark.parametrize(
    ("lengths", "heads", "kv_heads", "width", "window"),
    [
        ((5, 1, 70, 33, 0, 200, 64, 65), 4, 2, 32, None),
        ((600,), 8, 1, 16, None),
        ((31, 257), 2, 1, 128, 50),
        ((700,), 2, 1, 64, 100),
        ((300, 17), 4, 4, 80, None),
        ((128, 90), 3, 1, 96, 64),
        ((1, 1, 1), 2, 2, 48, 3),
        ((40, 64, 63), 6, 2, 112, 7),
        ((90,), 8, 4, 32, 1000),
    ],
)
def test_equals_float64(lengths, heads, kv_heads, width, window, dtype) -> None:
    starts = documents(*lengths)
    inputs = tensors(int(starts[-1]), heads, kv_heads, width, dtype)
    assert_same(attention, reference.attention, *inputs, starts, window)


@given(
    lengths=st.lists(st.integers(0, 150), max_size=5),
    group=st.sampled_from([1, 2, 4, 8]),
    kv_heads=st.integers(1, 2),
    width=st.sampled_from(range(16, 144, 16)),
    window=st.none() | st.integers(2, 200),
)
def test_equals_float64_on_any_shape(lengths, group, kv_heads, width, window) -> None:
    starts = documents(20, *lengths)  # single tokens alone have no gradient of q and k but rounding
    inputs = tensors(int(starts[-1]), group * kv_heads, kv_heads, width, torch.float32)
    assert_same(attention, reference.attention, *inputs, starts, window)


def unshared(q_TNH, k_TKH, v_TKH, starts_E, window, prefix_J):
    """The definition: each segment behind a copy of its prefix, as a document of its own."""
    bounds = list(itertools.pairwise(starts_E.tolist()))
    parts = []
    for (first, end), prefix in zip(bounds, prefix_J.tolist(), strict=True):
        before = range(*bounds[prefix]) if prefix >= 0 else range(0)
        tokens = [*before, *range(first, end)]
        whole = documents(len(tokens))
        parts.append(reference.attention(q_TNH[tokens], k_TKH[tokens], v_TKH[tokens], whole, window)[len(before) :])
    return torch.cat(parts)


GROUPS = [
    [(70, [33, 1, 64]), (1, [5, 90])],  # a prompt's tokens, then those of each segment behind it
    [(600, [300, 20, 65])],
    [(64, [64, 128]), (129, [1]), (0, [9, 30])],
    [(13, []), (200, [7] * 9)],
]


@DTYPES
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("window", [None, 2, 50, 200])
def test_a_prefix_is_seen_as_ones_own_beginning(groups, window, dtype) -> None:
    starts, prefix = shared_prompts(groups)
    inputs = tensors(int(starts[-1]), 4, 2, 32, dtype)
    assert_same(attention, unshared, *inputs, starts, window, prefix)


@given(
    groups=st.lists(st.tuples(st.integers(0, 150), st.lists(st.integers(0, 100), max_size=4)), max_size=3),
    group=st.sampled_from([1, 2, 4]),
    kv_heads=st.integers(1, 2),
    window=st.none() | st.integers(2, 200),
)
def test_a_prefix_is_seen_on_any_shape(groups, group, kv_heads, window) -> None:
    starts, prefix = shared_prompts([(20, [15]), *groups])
    inputs = tensors(int(starts[-1]), group * kv_heads, kv_heads, 16, torch.float32)
    assert_same(attention, unshared, *inputs, starts, window, prefix)
    again = [x.detach().requires_grad_() for x in inputs]
    assert_same(reference.attention, unshared, *again, starts, window, prefix)


def test_a_prefix_may_stand_anywhere_and_no_other_is_seen() -> None:
    starts, prefix = documents(40, 30, 20, 10), torch.tensor([2, 0, -1, 2], dtype=torch.int32)
    with pytest.raises(ValueError, match="none itself"):
        attention(*tensors(100, 2, 1, 16, torch.float32), starts, None, prefix)
    prefix[1] = -1
    inputs = tensors(100, 2, 1, 16, torch.float32)
    assert_same(attention, unshared, *inputs, starts, None, prefix)


@DTYPES
def test_a_width_that_no_vector_fits_is_right_too(dtype) -> None:
    assert_same(attention, reference.attention, *tensors(50, 2, 1, 24, dtype), documents(20, 30), None)


@DTYPES
def test_tensors_that_are_views_are_right_too(dtype) -> None:
    q_TNH, k_TKH, v_TKH = draw(60, 8, 32, dtype=dtype, seed=0).detach().split((4, 2, 2), dim=1)
    inputs = [q_TNH.requires_grad_(), k_TKH.requires_grad_(), v_TKH.requires_grad_()]
    assert_same(attention, reference.attention, *inputs, documents(25, 35), None)


@DTYPES
def test_packed_documents_are_the_same_bits_as_one_by_one(dtype) -> None:
    starts = documents(70, 3, 129)
    inputs = tensors(202, 4, 2, 32, dtype)
    given = torch.randn(202, 4, 32, generator=torch.Generator().manual_seed(3)).to(dtype)
    packed = attention(*inputs, starts)
    packed = [packed, *torch.autograd.grad(packed, inputs, given)]
    for first, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        own = [x.detach()[first:end].requires_grad_() for x in inputs]
        alone = attention(*own, documents(end - first))
        for whole, part in zip(packed, [alone, *torch.autograd.grad(alone, own, given[first:end])], strict=True):
            assert torch.equal(whole[first:end], part)


@DTYPES
def test_what_is_no_number_stays_in_its_document_and_shows(dtype) -> None:
    inputs = [x.detach() for x in tensors(150, 2, 1, 32, dtype)]
    for poisoned in range(3):
        mine = [x.clone() for x in inputs]
        mine[poisoned][100] = torch.nan
        found = gradients([x.requires_grad_() for x in mine], documents(80, 70))
        for x, clean in zip(found, gradients([x.requires_grad_() for x in inputs], documents(80, 70)), strict=True):
            assert torch.equal(x[:80], clean[:80])
        assert found[0][100].isnan().any()


@DTYPES
def test_what_lay_in_memory_before_does_not_matter(dtype) -> None:
    """Scratch memory of a call that had NaN comes again; rows behind a prefix of 34 begin inside of a vector."""
    starts, prefix = documents(34, 9), torch.tensor([-1, 0], dtype=torch.int32)
    for _ in range(20):
        gradients([x.detach().mul(math.nan).requires_grad_() for x in tensors(64, 2, 1, 16, dtype)], documents(64))
        inputs = tensors(43, 2, 1, 16, dtype)
        for found in gradients(inputs, starts, None, prefix):
            assert found.isfinite().all()


@DTYPES
@pytest.mark.parametrize(("lengths", "kv_heads"), [((1500,), 1), ((700, 20, 40, 3), 2), ((900, 400), 1)])
def test_the_same_bits_with_any_number_of_threads(lengths, kv_heads, dtype) -> None:
    """Many threads split a long document's gradients into smaller units; one thread computes it whole."""
    starts = documents(*lengths)
    inputs = tensors(int(starts[-1]), 2, kv_heads, 16, dtype)
    before, found = torch.get_num_threads(), {}
    try:
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            found[threads] = gradients(inputs, starts, 300)
    finally:
        torch.set_num_threads(before)
    for threads in (2, 7):
        assert all(torch.equal(a, b) for a, b in zip(found[1], found[threads], strict=True))


@DTYPES
@pytest.mark.parametrize("groups", [[(700, [300, 20])], [(40, [500, 1]), (3, [9, 8])]])
def test_the_same_bits_with_any_number_of_threads_where_prompts_are_shared(groups, dtype) -> None:
    starts, prefix = shared_prompts(groups)
    inputs = tensors(int(starts[-1]), 2, 1, 16, dtype)
    before, found = torch.get_num_threads(), {}
    try:
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            found[threads] = gradients(inputs, starts, 300, prefix)
    finally:
        torch.set_num_threads(before)
    for threads in (2, 7):
        assert all(torch.equal(a, b) for a, b in zip(found[1], found[threads], strict=True))


@DTYPES
def test_large_scores_do_not_overflow(dtype) -> None:
    q_TNH, k_TKH, v_TKH = tensors(130, 2, 1, 64, dtype)
    inputs = [(q_TNH.detach() * 100).requires_grad_(), k_TKH, v_TKH]
    found = gradients(inputs, documents(130))
    assert all(x.isfinite().all() for x in found)
    expected = reference.attention(*(x.detach().double() for x in inputs), documents(130), None)
    assert distance(found[0], expected) < 2 * TOLERANCES[dtype]


@DTYPES
def test_nothing_in_nothing_out(dtype) -> None:
    inputs = tensors(0, 4, 2, 32, dtype)
    for starts in (documents(), documents(0, 0)):
        assert [tuple(x.shape) for x in gradients(inputs, starts)] == [(0, 4, 32), (0, 4, 32), (0, 2, 32), (0, 2, 32)]


def test_the_first_token_copies_its_value() -> None:
    q_TNH, k_TKH, v_TKH = tensors(9, 2, 1, 16, torch.float32)
    out_TNH = attention(q_TNH, k_TKH, v_TKH, documents(4, 1, 4))
    assert torch.equal(out_TNH[[0, 4, 5]], v_TKH[[0, 4, 5]].expand(-1, 2, -1))


@pytest.mark.parametrize(
    ("starts", "window", "text"),
    [
        ([0, 5], None, "to 9"),
        ([1, 9], None, "to 9"),
        ([0, 6, 4, 9], None, "rise"),
        ([], None, "to 9"),
        ([0, 9], 0, "window"),
    ],
)
def test_what_cuts_no_documents_is_refused(starts, window, text) -> None:
    with pytest.raises(ValueError, match=text):
        attention(*tensors(9, 1, 1, 16, torch.float32), torch.tensor(starts, dtype=torch.int32), window)
