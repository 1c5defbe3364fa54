"""The most likely tokens of each place, by every backend, against the full forward."""

from dataclasses import replace

import pytest
import torch

from doubles import make_model, make_tokenizer, random_ids, request
from open_exaone.base.records import Sampling
from open_exaone.engine.engine import Engine
from open_exaone.engine.sampling import top_logprobs

pytestmark = pytest.mark.usefixtures("backend")

SAMPLINGS = [
    Sampling(12, 0.0),
    Sampling(12, 1.3, 0.7, top_k=9, seed=3, stop=["e"]),  # what is behind a stop string is left out
    Sampling(12, 1.0, 1.0, logit_bias={30: 40.0}, repetition_penalty=1.4, seed=1),  # the raw model's all the same
]


def asked(number, prompts):
    """Requests of every sampling, which ask for so many tokens, and others between them that ask for none."""
    plain = [request(prompt, sampling) for prompt in prompts for sampling in SAMPLINGS]
    return [one for other in plain for one in (replace(other, num_top_logprobs=number), other)]


@torch.no_grad()
def test_they_are_those_of_the_full_forward_and_change_nothing_else() -> None:
    engine = Engine(make_model(), make_tokenizer(), num_slots=4)
    requests = asked(5, [random_ids(7, seed=1).tolist(), random_ids(3, seed=2).tolist()])
    found = dict(engine.stream(requests))
    for place, one in enumerate(requests):
        completion = found[place]
        if not one.num_top_logprobs:
            assert completion.top_logprobs == () and completion.ids == found[place - 1].ids
            continue
        assert len(completion.top_logprobs) == len(completion.ids)
        logits_TV = engine.model(torch.tensor([[*one.prompt_ids, *completion.ids]]))[0, len(one.prompt_ids) - 1 : -1]
        for wanted_V, token, logprob, top in zip(
            logits_TV.log_softmax(-1), completion.ids, completion.logprobs, completion.top_logprobs, strict=True
        ):
            torch.testing.assert_close(torch.tensor(top.logprobs), wanted_V.topk(5).values, rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(torch.tensor(top.logprobs), wanted_V[list(top.ids)], rtol=1e-4, atol=1e-4)
            assert len(set(top.ids)) == 5
            if token in top.ids:
                assert logprob == pytest.approx(top.logprobs[top.ids.index(token)], abs=1e-5)


def test_of_equals_the_lower_id_comes_first_and_no_more_are_given_than_there_are() -> None:
    model = make_model()
    with torch.no_grad():
        model.lm_head.weight.zero_()
    [(_, done)] = Engine(model, make_tokenizer()).stream(asked(1 << 20, [[9]])[:1])
    for top in done.top_logprobs:
        assert top.ids == tuple(range(320)) and len(set(top.logprobs)) == 1
    assert top_logprobs(torch.tensor([0.0, 2.0, 2.0, 1.0]), 3).ids == (1, 2, 3)
