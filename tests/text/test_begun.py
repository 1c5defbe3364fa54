"""What a reply begins with is written, and divided into segments, as the format does with a whole reply."""

import pytest

from doubles import make_tokenizer
from open_exaone.text.begun import begun_segments, begun_text
from open_exaone.text.tokenizer import Tokenizer

QUESTION = {"role": "user", "content": "3 + 4?"}


@pytest.mark.parametrize("name", ["exaone-4.0", "exaone-deep"])
@pytest.mark.parametrize("thought", ["3+4=7", "a\nb", "7 "])
@pytest.mark.parametrize("answer", ["It is 7.", "", None])
def test_a_begun_reply_has_the_segments_of_a_whole_one(name, thought, answer):
    chat_format = Tokenizer(make_tokenizer().backend, chat_format=name).chat_format
    prompt = chat_format.segments([QUESTION], thinking=True, generation_prompt=True, with_mask=False)
    text = begun_text(chat_format, thought, answer, thinking=True)
    begun = [*prompt, *begun_segments(text, chat_format.thought_tag)]
    reply = {"role": "assistant", "reasoning_content": thought, "content": answer or "7"}
    whole = chat_format.segments([QUESTION, reply], thinking=True, with_mask=False)
    assert begun == whole[: len(begun)]
    assert len(begun) - len(prompt) == {None: 1, "": 2}.get(answer, 3)
