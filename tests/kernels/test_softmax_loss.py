"""Log-probabilities, entropies and the gradient in place, against float64 and torch's own."""

import pytest
import torch
import torch.nn.functional as F

from kernels.parity import TOLERANCES, distance
from open_exaone.kernels import logprobs_and_entropy, softmax_loss

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])


def chunk(num_tokens: int, vocab: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits_CV = (torch.randn(num_tokens, vocab, generator=generator) * 4).to(dtype)
    ids_C = torch.randint(vocab, (num_tokens,), generator=generator)
    return logits_CV, ids_C, torch.randn(num_tokens, generator=generator)


@DTYPES
@pytest.mark.parametrize("vocab", [1, 7, 333, 4096])
def test_equals_float64(vocab, dtype) -> None:
    logits_CV, ids_C, coefficients_C = chunk(33, vocab, dtype)
    coefficients_C[3] = 0
    wide_CV = logits_CV.double().requires_grad_()
    logprobs_CV = wide_CV.log_softmax(-1)
    expected_C = logprobs_CV.gather(1, ids_C[:, None])[:, 0]
    (expected_C * coefficients_C).sum().backward()
    entropy_C = -(logprobs_CV.exp() * logprobs_CV).sum(-1)

    before_CV = logits_CV.clone()
    read = logprobs_and_entropy(logits_CV, ids_C)
    assert torch.equal(logits_CV, before_CV)
    assert all(torch.equal(a, b) for a, b in zip(read, softmax_loss(logits_CV, ids_C, coefficients_C), strict=True))
    assert (read[0] - expected_C).abs().max() < 1e-5 and (read[1] - entropy_C).abs().max() < 1e-5
    assert distance(logits_CV, wide_CV.grad) < TOLERANCES[dtype] and not logits_CV[3].any()


@DTYPES
def test_a_chunked_head_gives_the_gradients_of_cross_entropy(dtype) -> None:
    """What the chunked loss does with it: two products more, and there is the gradient of states and head."""
    generator = torch.Generator().manual_seed(1)
    x_CD, head_VD = (torch.randn(shape, generator=generator).to(dtype) for shape in ((20, 16), (90, 16)))
    ids_C = torch.randint(90, (20,), generator=generator)
    wide = [x.double().requires_grad_() for x in (x_CD, head_VD)]
    F.cross_entropy(wide[0] @ wide[1].T, ids_C, reduction="sum").backward()
    logits_CV = x_CD @ head_VD.T
    softmax_loss(logits_CV, ids_C, -torch.ones(20))
    assert distance(logits_CV @ head_VD, wide[0].grad) < 4 * TOLERANCES[dtype]
    assert distance(logits_CV.T @ x_CD, wide[1].grad) < 4 * TOLERANCES[dtype]


@DTYPES
def test_extreme_logits(dtype) -> None:
    """One certain token; a token ruled out by -inf; logits beyond what exp can hold; all alike."""
    logits_CV = torch.zeros(4, 20, dtype=dtype)
    logits_CV[0, 3], logits_CV[1, 4], logits_CV[2] = 300.0, -torch.inf, 1e30
    ids_C = torch.tensor([3, 5, 0, 0])
    gradient_CV = logits_CV.clone()
    logprobs_C, entropy_C = softmax_loss(gradient_CV, ids_C, torch.ones(4))
    expected_C = -torch.tensor([0.0, 19.0, 20.0, 20.0]).clamp(1).log()
    assert torch.allclose(logprobs_C, expected_C) and torch.allclose(entropy_C, -expected_C)
    assert gradient_CV.isfinite().all() and not gradient_CV[0].any() and gradient_CV[1, 4] == 0
    assert (gradient_CV.float().sum(1).abs() < 1e-2).all()


@DTYPES
def test_what_is_no_number_shows_and_stays_in_its_row(dtype) -> None:
    logits_CV, ids_C, coefficients_C = chunk(3, 50, dtype)
    logits_CV[1, 9] = torch.nan
    logprobs_C, entropy_C = softmax_loss(logits_CV, ids_C, coefficients_C)
    for found in (logprobs_C, entropy_C, logits_CV.sum(1)):
        assert found.isnan().tolist() == [False, True, False]


def test_no_rows_are_no_trouble() -> None:
    logprobs_C, entropy_C = softmax_loss(torch.zeros(0, 9), torch.zeros(0, dtype=torch.long), torch.zeros(0))
    assert logprobs_C.shape == entropy_C.shape == (0,)


@pytest.mark.parametrize("wrong", [-100, 50])
def test_an_id_outside_the_vocabulary_is_refused(wrong) -> None:
    logits_CV, ids_C, coefficients_C = chunk(3, 50, torch.float32)
    ids_C[1] = wrong
    with pytest.raises(ValueError, match=str(wrong)):
        softmax_loss(logits_CV, ids_C, coefficients_C)
