"""The engine's stream: completions as they finish, samplings of their own, penalties, cut thoughts."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import sampling_reference as reference
from doubles import SHAPES, make_model, make_tokenizer, random_ids, request
from open_exaone.base.errors import CheckpointError, PromptTooLongError
from open_exaone.base.records import Sampling, StopReason
from open_exaone.engine.engine import Engine
from open_exaone.model.logprobs import token_logprobs
from open_exaone.text.tokenizer import Tokenizer

pytestmark = pytest.mark.usefixtures("backend")

PROMPTS = [random_ids(length, seed=length).tolist() for length in (3, 12, 7, 1, 9)]
WARM = Sampling(max_new_tokens=16, temperature=1.0, top_p=0.9, seed=5)


def make_engine(shape="exaone4-global", num_slots=4, **options):
    return Engine(make_model(SHAPES[shape]), make_tokenizer(), num_slots=num_slots, **options)


def asked(sampling=WARM, num_samples=3, prompts=PROMPTS):
    return [request(prompt, sampling, index) for prompt in prompts for index in range(num_samples)]


def ids_of(engine, requests):
    completions = dict(engine.stream(requests))
    return [completions[place].ids for place in range(len(requests))]


def thinking_prompts(num=12, thinking=True):
    tokenizer = make_tokenizer()
    return [
        tokenizer.render([{"role": "user", "content": f"{number} + 3?"}], thinking=thinking, generation_prompt=True)
        for number in range(num)
    ]


def test_the_stream_gives_what_generate_gives():
    engine = make_engine()
    groups = engine.generate(PROMPTS, replace(WARM, num_samples=3))
    assert [completion for group in groups for completion in group] == [
        completion for _, completion in sorted(engine.stream(asked()), key=lambda item: item[0])
    ]


def test_a_stream_of_what_is_missing_gives_the_rest():
    """However the asked-for are cut, ordered and placed in slots."""
    requests = asked()
    whole = ids_of(make_engine(num_slots=16), requests)
    for places in ([1, 2, 6, 13], [14, 0, 7], range(15)):
        for num_slots in (1, 3, 16):
            missing = [requests[place] for place in places]
            assert ids_of(make_engine(num_slots=num_slots), missing) == [whole[place] for place in places]


def test_each_is_given_when_its_last_token_is_there():
    short, long = replace(WARM, max_new_tokens=2), replace(WARM, max_new_tokens=30)
    requests = [request(PROMPTS[0], long), *(request(prompt, short) for prompt in PROMPTS)]
    steps = []
    engine = make_engine(num_slots=16, num_steps=1)
    seen_at = {place: len(steps) for place, _ in engine.stream(requests, lambda *step: steps.append(step))}
    longest = len(dict(engine.stream(requests))[0].ids)
    assert longest > 10
    assert seen_at == {0: longest - 1, **dict.fromkeys(range(1, 6), 1)}
    assert sum(done for _, done in steps) == 6


def test_samplings_of_ones_own_in_one_stream():
    samplings = [
        WARM,
        replace(WARM, temperature=0.0),
        replace(WARM, temperature=1.4, top_p=1.0),
        replace(WARM, presence_penalty=1.5),
        replace(WARM, max_new_tokens=5, seed=9),
        replace(WARM, thinking_budget=4),
        replace(WARM, top_k=5, min_p=0.1, stop=("a", "e")),
        replace(WARM, frequency_penalty=1.0, repetition_penalty=1.3, logit_bias={50: 4.0}, stop_ids=(60, 61)),
    ]
    requests = [request(prompt, sampling, index) for prompt in PROMPTS for index, sampling in enumerate(samplings)]
    mixed = ids_of(make_engine(num_slots=5), requests)
    for index, sampling in enumerate(samplings):
        alone = ids_of(make_engine(), [request(prompt, sampling, index) for prompt in PROMPTS])
        assert mixed[index :: len(samplings)] == alone
    assert len(set(mixed[:6])) >= 5


def test_a_closed_stream_stops_and_frees(backend):
    steps, engine = [], make_engine(num_slots=2)
    stream = engine.stream(asked(), lambda *step: steps.append(step))
    next(stream)
    assert not engine._free_backends
    num_steps = len(steps)
    stream.close()
    [freed] = engine._free_backends
    if backend == "native":
        assert freed._decoder.num_blocks == (0, 0)
    else:
        assert all(pool.shape[2] == 2 for pool in freed._cache._pools.values())  # padding and zeros
    assert len(steps) == num_steps
    assert list(stream) == []


def test_streams_may_be_open_together():
    engine = make_engine(num_slots=3)
    one, other = engine.stream(asked()), engine.stream(asked(replace(WARM, seed=9)))
    mixed = [dict(pairs) for pairs in zip(*zip(one, other, strict=True), strict=True)]
    alone = [dict(make_engine().stream(asked(replace(WARM, seed=seed)))) for seed in (5, 9)]
    for found, wanted in zip(mixed, alone, strict=True):
        assert {place: one.ids for place, one in found.items()} == {place: one.ids for place, one in wanted.items()}


def collect(stream, given):
    for item in stream:
        given.append(item)


def test_what_a_step_finished_is_given_before_it_may_be_cancelled():
    class Stop(Exception):
        pass

    def stop(num_tokens, num_done):
        if num_done:
            raise Stop

    given = []
    stream = make_engine(num_slots=1).stream(asked(replace(WARM, max_new_tokens=3)), stop)
    with pytest.raises(Stop):
        collect(stream, given)
    assert len(given) == 1


def test_what_cannot_be_completed_is_refused_before_anything_is_generated():
    engine = make_engine()
    engine.model.forward = None
    with pytest.raises(PromptTooLongError, match="request 1 has 120 tokens.*context of 128"):
        engine.stream([request([5], WARM), request([5] * 120, WARM)])
    with pytest.raises(ValueError, match="request 0 is empty"):
        engine.stream([request([], WARM)])
    assert list(engine.stream([])) == []


@pytest.mark.parametrize("shape", ["exaone4-untied", "exaone4-hybrid-untied"])
@pytest.mark.parametrize("num_slots", [2, 16])
def test_logits_that_are_no_numbers_fail_their_own_request_alone(shape, num_slots):
    """Nor do they spoil the slot for the next."""
    config = SHAPES["exaone4-hybrid"] if shape.startswith("exaone4-hybrid") else SHAPES["exaone4-global"]
    model = make_model(config.model_copy(update={"tied_embeddings": False}))
    with torch.no_grad():
        model.model.embed_tokens.weight[30] = float("nan")
    engine = Engine(model, make_tokenizer(), num_slots=num_slots)
    banned = replace(WARM, logit_bias={30: -100.0}, presence_penalty=0.1)
    prompts = [[token for token in prompt if token != 30] for prompt in PROMPTS]
    whole = dict(engine.stream(asked(banned, 2, prompts)))
    mixed = [*prompts[:2], [40] * 14 + [30], prompts[2], [30, 40], *prompts[3:]]
    found = dict(engine.stream(asked(banned, 2, mixed)))
    failed = {place: found.pop(place) for place in (4, 5, 8, 9)}
    assert [found[place].ids for place in sorted(found)] == [whole[place].ids for place in range(10)]
    for completion in failed.values():
        assert (completion.ids, completion.stop) == ((), StopReason.ERROR)
        assert "logits for token 1 of the reply are NaN" in completion.error
    # The next sample of a failed one's slot, while its neighbour has grown past where the failed one's prompt ended.
    long = replace(WARM, max_new_tokens=60, logit_bias={30: -100.0, engine.tokenizer.end_id: -100.0})
    behind = [request(prompt, long) for prompt in ([41] * 12, [40] * 20 + [30], prompts[2])]
    found = dict(engine.stream(behind))
    assert [len(found[place].ids) for place in range(3)] == [60, 0, 60]
    [[drawn]] = engine.generate([prompts[0]], replace(WARM, logit_bias={30: 100.0}, stop_ids=()))
    assert drawn.ids == (30,) and drawn.stop is StopReason.ERROR and "token 2" in drawn.error


def test_a_budget_needs_a_chat_format(tmp_path):
    make_tokenizer().save(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    engine = Engine(make_model(), Tokenizer.load(tmp_path))
    assert list(engine.stream([request([30], WARM)]))
    with pytest.raises(CheckpointError, match="has no chat template"):
        engine.stream([request([30], replace(WARM, thinking_budget=3))])


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize(
    "changes",
    [
        {"presence_penalty": 1.5},
        {"presence_penalty": -0.7, "frequency_penalty": -0.2, "top_k": 30},
        {"frequency_penalty": 0.8, "repetition_penalty": 1.2, "logit_bias": {40: 3.0, 41: -50.0}, "min_p": 0.02},
    ],
)
@torch.no_grad()
def test_log_probabilities_are_right_under_penalties_bias_and_filters(temperature, changes):
    """`logprobs` are the raw model's; what is drawn, and how likely it was, follows from prompt and reply so far."""
    engine = make_engine("exaone4-hybrid", num_slots=8)
    sampling = Sampling(24, temperature, 0.8, seed=3, **changes)
    requests = asked(sampling, num_samples=2)
    requests[::2] = [replace(request, sampling=replace(sampling, max_new_tokens=7)) for request in requests[::2]]
    for place, completion in engine.stream(requests):  # the short ones' rows are dropped midway
        prompt, new = PROMPTS[place // 2], completion.ids
        logits_TV = engine.model(torch.tensor([[*prompt, *new]]))[0, len(prompt) - 1 : -1]
        raw_T = token_logprobs(logits_TV, torch.tensor(new))
        torch.testing.assert_close(torch.tensor(completion.logprobs), raw_T, rtol=1e-4, atol=1e-4)
        wanted_T = torch.tensor(reference.logprobs(logits_TV.numpy(), sampling, prompt, new))
        torch.testing.assert_close(torch.tensor(completion.sampling_logprobs), wanted_T, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty"])
def test_a_penalty_makes_replies_repeat_less(name):
    def repeats(penalty):
        found = make_engine(num_slots=8).stream(asked(Sampling(24, 0.8, 0.8, seed=3, **{name: penalty})))
        return sum(len(completion.ids) - len(set(completion.ids)) for _, completion in found)

    assert repeats(1.5) < repeats(0.0) < repeats(-1.5)


def cut_and_uncut(budget, prompts, num_slots=48, **changes):
    sampling = Sampling(max_new_tokens=60, temperature=1.3, top_p=1.0, seed=1, **changes)
    engine = make_engine(num_slots=num_slots)
    uncut = dict(engine.stream(asked(sampling, 8, prompts)))
    cut = dict(engine.stream(asked(replace(sampling, thinking_budget=budget), 8, prompts)))
    return [(cut[place], uncut[place]) for place in range(len(uncut))]


@pytest.mark.parametrize("penalty", [0.0, 0.5])
def test_a_thought_still_open_at_its_budget_is_closed(penalty):
    tokenizer, budget = make_tokenizer(), 24
    newline = tokenizer.encode("\n")
    closing = (*newline, tokenizer.think_close_id, *newline, *newline)
    stops, left_alone = set(), 0
    for cut, uncut in cut_and_uncut(budget, thinking_prompts(), presence_penalty=penalty):
        assert cut.ids[:budget] == uncut.ids[:budget]
        assert cut.sampling_logprobs[:budget] == pytest.approx(uncut.sampling_logprobs[:budget], abs=1e-4)
        if len(uncut.ids) <= budget or tokenizer.think_close_id in uncut.ids[:budget]:
            assert (cut.ids, cut.stop) == (uncut.ids, uncut.stop)
            left_alone += len(uncut.ids) > budget
            continue
        forced = closing[1:] if cut.ids[budget - 1] == newline[0] else closing
        end = budget + len(forced)
        assert cut.ids[budget:end] == forced
        assert cut.sampling_logprobs[budget:end] == (0.0,) * len(forced)
        assert all(value < 0 for value in cut.logprobs[budget:end])
        assert len(cut.ids) > end
        assert tokenizer.split(cut.ids, thinking=True).finished
        ended = StopReason.END if cut.ids[:end] == uncut.ids[:end] else StopReason.BUDGET
        assert cut.stop is (ended if cut.ids[-1] == tokenizer.end_id else StopReason.LENGTH)
        stops.add(cut.stop)
    assert stops == {StopReason.BUDGET, StopReason.LENGTH}
    assert left_alone  # some closed their thought themselves


@torch.no_grad()
def test_forced_tokens_are_ordinary_tokens_to_the_model():
    """The answer behind them is drawn from what the model says of the whole reply."""
    engine = make_engine("exaone4-hybrid")
    sampling, num_cut = Sampling(24, 0.7, 0.8, thinking_budget=6), 0
    for place, completion in engine.stream(asked(sampling, 2, thinking_prompts(3))):
        prompt, new_T = thinking_prompts(3)[place // 2], torch.tensor(completion.ids)
        logits_TV = engine.model(torch.tensor([[*prompt, *completion.ids]]))[0, len(prompt) - 1 : -1]
        raw_T = token_logprobs(logits_TV, new_T)
        torch.testing.assert_close(torch.tensor(completion.logprobs), raw_T, rtol=1e-4, atol=1e-4)
        with np.errstate(divide="ignore"):  # forced tokens may have been left out
            wanted_T = torch.tensor(reference.logprobs(logits_TV.numpy(), sampling, prompt, completion.ids))
        if len(completion.ids) > 6 and engine.thoughts.is_open(prompt, completion.ids[:6]):
            num_cut += 1
            wanted_T[6 : 6 + len(engine.thoughts.closing_ids(completion.ids[:6]))] = 0.0
        torch.testing.assert_close(torch.tensor(completion.sampling_logprobs), wanted_T, rtol=1e-3, atol=1e-4)
    assert num_cut


def test_a_reply_without_a_thought_knows_no_budget():
    """Non-reasoning mode, or a prompt that is no chat: no thought is open, so nothing is forced."""
    for prompts in (thinking_prompts(4, thinking=False), PROMPTS):
        for cut, uncut in cut_and_uncut(10, prompts):
            assert (cut.ids, cut.stop) == (uncut.ids, uncut.stop)


def test_a_thought_closed_by_its_last_allowed_token_is_not_closed_again():
    close_id, engine = make_tokenizer().think_close_id, make_engine(num_slots=48)
    requests = asked(replace(WARM, max_new_tokens=40, temperature=1.3, top_p=1.0), 8, thinking_prompts(6))
    uncut = ids_of(engine, requests)
    closed = [(place, ids.index(close_id) + 1) for place, ids in enumerate(uncut) if close_id in ids[1:30]]
    assert closed
    for place, budget in closed[:3]:
        request = requests[place]
        enough, scarce = (replace(request.sampling, thinking_budget=tokens) for tokens in (budget, budget - 1))
        assert ids_of(engine, [replace(request, sampling=enough)]) == [uncut[place]]
        assert ids_of(engine, [replace(request, sampling=scarce)]) != [uncut[place]]


def test_a_reply_that_its_budget_did_not_change_does_not_stop_with_budget():
    """The model is made to close its thought where the budget would: in the words that are forced."""
    engine, [prompt] = make_engine(), thinking_prompts(1)
    newline, close_id = engine.tokenizer.encode("\n"), engine.tokenizer.think_close_id
    closing = [*newline, close_id, *newline, *newline]
    script = [60, 61, 62, *closing, 63, engine.tokenizer.end_id]

    def completed(written):
        """What an engine makes of a model that writes these ids, whatever it reads."""
        scripted, rest = make_engine(backend="plain"), iter(written)
        head = scripted.model.head
        scripted.model.head = lambda x_XD: head(x_XD) + 1e4 * (torch.arange(320) == next(rest))
        [(_, completion)] = scripted.stream([request(prompt, Sampling(20, 1.0, 1.0, thinking_budget=3))])
        return list(completion.ids), completion.stop

    assert completed(script) == (script, StopReason.END)
    assert completed([*script[:3], 64, *script[4:]]) == (script, StopReason.BUDGET)


def test_cut_thoughts_do_not_depend_on_slots_or_neighbours():
    narrow, wide = (cut_and_uncut(10, thinking_prompts(2), num_slots=slots) for slots in (2, 40))
    assert [(cut.ids, cut.stop) for cut, _ in narrow] == [(cut.ids, cut.stop) for cut, _ in wide]


def test_a_budget_of_the_last_but_one_token_ends_by_length():
    [(_, cut)] = make_engine().stream([request(thinking_prompts(1)[0], Sampling(8, 0.0, thinking_budget=7))])
    if cut.stop is StopReason.LENGTH:
        assert len(cut.ids) == 8
    assert make_engine().thoughts.closing_ids(cut.ids[:7])[0] == cut.ids[7]
