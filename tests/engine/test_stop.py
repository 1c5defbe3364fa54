"""What ends a reply besides its end token: stop strings, wherever tokens cut them, and stop ids."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doubles import SHAPES, make_model, make_tokenizer, random_ids, request
from open_exaone.base.records import Sampling, StopReason
from open_exaone.engine.engine import Engine
from open_exaone.engine.stop import StopStrings, reply_text

pytestmark = pytest.mark.usefixtures("backend")

PROMPTS = [random_ids(length, seed=length).tolist() for length in (3, 12, 7)]
WARM = Sampling(max_new_tokens=40, temperature=1.0, top_p=1.0, num_samples=6, seed=5)


def make_engine():
    return Engine(make_model(SHAPES["exaone4-hybrid"]), make_tokenizer(), num_slots=8)


def completions(sampling):
    return [completion for group in make_engine().generate(PROMPTS, sampling) for completion in group]


@settings(max_examples=200, deadline=None)
@given(
    text=st.text("ab+ 한é\n", max_size=30),
    strings=st.lists(st.text("ab+ 한é\n", min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_a_string_is_found_at_the_first_token_that_completes_it(text, strings):
    tokenizer = make_tokenizer()
    ids, search = tokenizer.encode(text), StopStrings(tokenizer, strings)
    found = next((place + 1 for place, token in enumerate(ids) if search.feed([token])), None)
    for length in range(len(ids) + 1):
        holds = any(string in tokenizer.decode(ids[:length]) for string in strings)
        assert holds == (found is not None and length >= found)
    if found is not None:
        kept = reply_text(tokenizer, ids[:found], StopReason.STOP_STRING, replace(WARM, stop=strings))
        assert tokenizer.decode(ids[:found]).startswith(kept) and not any(string in kept for string in strings)
        assert any(text.startswith(kept + string) for string in strings)


def test_a_reply_ends_with_its_first_stop_string_and_is_else_what_it_was():
    tokenizer, strings = make_tokenizer(), ("7", "is \\", "ow")
    stops = []
    for plain, stopped in zip(completions(WARM), completions(replace(WARM, stop=strings)), strict=True):
        lengths = range(1, len(plain.ids) + 1)
        texts = [tokenizer.decode(plain.ids[:length], skip_special=True) for length in lengths]
        length = next((n for n, text in zip(lengths, texts, strict=True) if any(s in text for s in strings)), None)
        assert stopped.ids == plain.ids[:length]
        assert len(stopped.logprobs) == len(stopped.sampling_logprobs) == len(stopped.ids)
        assert stopped.stop is (plain.stop if length is None else StopReason.STOP_STRING)
        stops.append(stopped.stop)
    assert len(set(stops)) > 1


def test_stop_ids_end_a_reply_as_its_end_token_does():
    tokenizer, plain = make_tokenizer(), completions(WARM)
    chosen = plain[0].ids[5]
    for was, stopped in zip(plain, completions(replace(WARM, stop_ids=[chosen])), strict=True):
        length = was.ids.index(chosen) + 1 if chosen in was.ids else len(was.ids)
        assert stopped.ids == was.ids[:length]
        if chosen in was.ids:
            assert stopped.stop is StopReason.END
            text = reply_text(tokenizer, stopped.ids, stopped.stop, replace(WARM, stop_ids=[chosen]))
            assert text == tokenizer.decode(stopped.ids[:-1], skip_special=True)


def test_a_string_that_the_last_token_completes_goes_before_the_limit():
    [seven] = make_tokenizer().encode("7")
    for string, stop in (("7777", StopReason.STOP_STRING), ("7777x", StopReason.LENGTH)):
        sampling = Sampling(4, 0.0, logit_bias={seven: 100.0}, stop=string)
        [(_, found)] = make_engine().stream([request(PROMPTS[0], sampling)])
        assert (found.ids, found.stop) == ((seven,) * 4, stop)
