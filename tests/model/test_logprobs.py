"""Log-probabilities in chunks: those of the whole, with the gradients of the whole."""

import pytest
import torch
import torch.nn.functional as F

from open_exaone.learn.cross_entropy import CrossEntropy, linear_cross_entropy
from open_exaone.model import logprobs
from open_exaone.model.logprobs import linear_logprobs
from open_exaone.model.packed import rounded

M, D, V = 23, 16, 50


def given(seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(M, D, generator=generator, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, generator=generator, dtype=dtype, requires_grad=True)
    return x, weight, torch.randint(V, (M,), generator=generator)


def whole(x, weight):
    return F.log_softmax(x @ weight.T, dim=-1)


@pytest.fixture(params=[1, 7 * V * 8, 10**9], ids=["a token", "seven tokens", "all"])
def chunk(request, monkeypatch):
    monkeypatch.setattr(logprobs, "CHUNK_BYTES", request.param)


@pytest.mark.usefixtures("chunk")
def test_logprobs_in_chunks_are_those_of_the_whole():
    x, weight, ids = given()
    found, entropies = linear_logprobs(x, weight, ids)
    expected = whole(x, weight)
    torch.testing.assert_close(found, expected.gather(1, ids[:, None])[:, 0].float())
    torch.testing.assert_close(entropies, -(expected.exp() * expected).sum(-1).float())
    upstream = torch.randn(M, generator=torch.Generator().manual_seed(5))
    gradients = torch.autograd.grad(found, (x, weight), upstream)
    wanted = torch.autograd.grad(expected.gather(1, ids[:, None])[:, 0], (x, weight), upstream.double())
    for gradient, one in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, one)


def plain_loss(x, weight, ids, denominator, smoothing, z):
    logits = x @ weight.T
    losses = F.cross_entropy(logits, ids, reduction="none", label_smoothing=smoothing)
    return (losses + z * logits.logsumexp(-1).square()).sum() / denominator


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize(("smoothing", "z"), [(0.0, 0.0), (0.1, 0.0), (0.0, 1e-2), (0.2, 1e-3)])
@pytest.mark.parametrize("scale", [1.0, -2.5])
def test_linear_cross_entropy_is_torchs(smoothing, z, scale):
    x, weight, ids = given()
    loss, entropy = linear_cross_entropy(x, weight, ids, 7.0, CrossEntropy(label_smoothing=smoothing, z_loss=z))
    torch.testing.assert_close(entropy, (-(whole(x, weight).exp() * whole(x, weight)).sum() / 7.0).float())
    found = scale * loss
    expected = scale * plain_loss(x, weight, ids, 7.0, smoothing, z)
    torch.testing.assert_close(found, expected.float())
    for gradient, one in zip(
        torch.autograd.grad(found, (x, weight)), torch.autograd.grad(expected, (x, weight)), strict=True
    ):
        torch.testing.assert_close(gradient, one, rtol=1e-5, atol=1e-6)


def test_the_two_ways_to_the_loss_agree():
    x, weight, ids = given(dtype=torch.float32)
    ways = (
        linear_cross_entropy(x, weight, ids, 5.0, CrossEntropy())[0],
        -linear_logprobs(x, weight, ids)[0].sum() / 5.0,
    )
    torch.testing.assert_close(*ways)
    for gradient, one in zip(*(torch.autograd.grad(way, (x, weight)) for way in ways), strict=True):
        torch.testing.assert_close(gradient, one)


def test_a_frozen_head_and_no_tokens_at_all():
    x, weight, ids = given(dtype=torch.float32)
    [gradient] = torch.autograd.grad(linear_cross_entropy(x, weight.detach(), ids, 1.0, CrossEntropy())[0], (x,))
    [expected] = torch.autograd.grad(plain_loss(x, weight, ids, 1.0, 0.0, 0.0), (x,))
    torch.testing.assert_close(gradient, expected)
    loss = (
        linear_cross_entropy(x[:0], weight, ids[:0], 1.0, CrossEntropy())[0]
        + linear_logprobs(x[:0], weight, ids[:0])[0].sum()
    )
    loss.backward()
    assert float(loss.detach()) == 0.0 and (x.grad is None or not x.grad.any())


def test_the_logits_of_all_tokens_never_exist_at_once(monkeypatch):
    monkeypatch.setattr(logprobs, "CHUNK_BYTES", 4 * V * 4)
    sizes = []
    real = F.linear
    monkeypatch.setattr(F, "linear", lambda *args: sizes.append(len(args[0])) or real(*args))
    x, weight, ids = given(dtype=torch.float32)
    (linear_cross_entropy(x, weight, ids, 1.0, CrossEntropy())[0] + linear_logprobs(x, weight, ids)[0].sum()).backward()
    assert max(sizes) <= 4 and sum(sizes) == 3 * rounded(M, x.device)
