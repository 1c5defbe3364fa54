"""What closes a thought, and how long it is, in every chat format."""

import pytest

from doubles import make_tokenizer
from open_exaone.base.errors import CheckpointError
from open_exaone.engine.thought import Thoughts
from open_exaone.text.encode import PieceEncoder
from open_exaone.text.tokenizer import Tokenizer
from text.families import write_deepseek, write_llama, write_qwen

# A template of a family that puts no newlines around its tags.
TIGHT = """{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.reasoning_content %}{{- '<think>' + message.reasoning_content + '</think>' }}{% endif %}
    {{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>' }}{% endif %}
"""


def own(name):
    return lambda folder: make_tokenizer().save(folder) or Tokenizer.load(folder, chat_format=name)


FAMILIES = {
    "exaone-4.0": (own("exaone-4.0"), "\n</think>\n\n", True),
    "exaone-deep": (own("exaone-deep"), "\n</thought>\n\n", True),
    "exaone-3.5": (own("exaone-3.5"), "\n</thought>\n\n", False),
    "qwen": (lambda folder: Tokenizer.load(write_qwen(folder)), "\n</think>\n\n", False),
    "deepseek": (lambda folder: Tokenizer.load(write_deepseek(folder)), "\n</think>\n\n", True),
    "llama": (lambda folder: Tokenizer.load(write_llama(folder)), "\n</think>\n\n", False),
    "tight": (lambda folder: Tokenizer.load(write_qwen(folder, TIGHT)), "</think>", True),
}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, tmp_path_factory):
    make, closing, opens = FAMILIES[request.param]
    return make(tmp_path_factory.mktemp(request.param)), closing, opens


def ids_of(tokenizer: Tokenizer, text: str) -> list[int]:
    """As a model writes a reply: tags are tokens where there are such."""
    return PieceEncoder(tokenizer.backend).encode([(text, True)])[0]


def tag_of(tokenizer: Tokenizer) -> str:
    return tokenizer.chat_format.thought_tag


def test_a_cut_thought_is_closed_as_the_format_closes_it(family):
    tokenizer, closing, _ = family
    thoughts = Thoughts(tokenizer)
    ids = ids_of(tokenizer, "3 and 4, so")
    assert tokenizer.decode(thoughts.closing_ids(ids)) == closing
    reply = tokenizer.decode([*ids, *thoughts.closing_ids(ids)])
    assert not thoughts.is_open([], ids_of(tokenizer, f"<{tag_of(tokenizer)}>\n{reply}"))
    opened = tokenizer.split(f"<{tag_of(tokenizer)}>\n{reply}It is 7.", thinking=True)
    assert (opened.thought, opened.answer, opened.finished) == ("3 and 4, so", "It is 7.", True)


def test_a_closing_that_has_begun_is_gone_on_with(family):
    tokenizer, closing, _ = family
    thoughts = Thoughts(tokenizer)
    whole = ids_of(tokenizer, closing)
    before = ids_of(tokenizer, "so")
    for num_there in range(1, len(whole)):
        ids = [*before, *whole[:num_there]]
        text = tokenizer.decode([*ids, *thoughts.closing_ids(ids)])
        assert text == f"so{closing}"
    tag = ids_of(tokenizer, f"</{tag_of(tokenizer)}>")
    for num_there in range(1, len(tag)):  # no newline in front of it
        ids = [*before, *tag[:num_there]]
        assert tokenizer.decode([*ids, *thoughts.closing_ids(ids)]) == f"so{closing.lstrip(chr(10))}"


def test_a_thought_is_open_where_prompt_or_reply_opened_it(family):
    tokenizer, closing, opens = family
    thoughts = Thoughts(tokenizer)
    ask = [{"role": "user", "content": f"What do <{tag_of(tokenizer)}> and </{tag_of(tokenizer)}> mean?\n"}]
    prompt = tokenizer.render(ask, thinking=True, generation_prompt=True)
    plain = tokenizer.render(ask, thinking=False, generation_prompt=True)
    going, opened = ids_of(tokenizer, "So 3"), ids_of(tokenizer, f"<{tag_of(tokenizer)}>\nSo 3")
    closed = ids_of(tokenizer, f"So 3{closing}7")
    assert thoughts.is_open(prompt, going) == opens
    assert thoughts.is_open(plain, going) == tokenizer.chat_format.opens_thought(False)
    assert thoughts.is_open(prompt, opened)
    assert thoughts.is_open(plain, opened)
    assert not thoughts.is_open(prompt, closed)
    assert not thoughts.is_open(tokenizer.encode("So"), going)  # a prompt without a chat


@pytest.mark.parametrize("thought", ["a", "3 and\n\n4 < 5, so", "답은 \U0001f600", "x </th"])
def test_the_thoughts_tokens_are_counted(family, thought):
    tokenizer, closing, opens = family
    thoughts = Thoughts(tokenizer)
    body = thought if opens else f"<{tag_of(tokenizer)}>\n{thought}"
    before = ids_of(tokenizer, body)
    answer = f"It is </{tag_of(tokenizer)}> 7."  # a later tag is the answer's own text
    ids = (*before, *ids_of(tokenizer, closing), *ids_of(tokenizer, answer))
    reply = tokenizer.split(ids, thinking=True)
    assert reply.thought == thought
    assert thoughts.num_tokens(ids, reply) == len(before)


def test_tags_made_up_of_other_tokens_are_counted_too():
    tokenizer = make_tokenizer()
    thoughts = Thoughts(tokenizer)
    plain = tokenizer.encode("7 and 9</think>\n\n8")
    ids = (*plain, tokenizer.think_close_id)
    reply = tokenizer.split(ids, thinking=True)
    assert reply.thought == "7 and 9"
    assert thoughts.num_tokens(ids, reply) == len(tokenizer.encode("7 and 9"))


def test_all_tokens_are_thought_until_it_is_closed_and_none_without_one(family):
    tokenizer, closing, opens = family
    thoughts = Thoughts(tokenizer)
    ids = tuple(ids_of(tokenizer, f"<{tag_of(tokenizer)}>\nSo 3"))
    assert thoughts.num_tokens(ids, tokenizer.split(ids, thinking=True)) == len(ids)
    ids = tuple(ids_of(tokenizer, closing + "7" if opens else "7"))
    assert thoughts.num_tokens(ids, tokenizer.split(ids, thinking=True)) == 0


def test_exaones_own_vocabulary_closes_with_its_tag(exaone):
    tokenizer = Tokenizer.load(exaone)
    thoughts = Thoughts(tokenizer)
    newline = tokenizer.encode("\n")
    assert thoughts.closing_ids(tokenizer.encode("so")) == [*newline, tokenizer.think_close_id, *newline, *newline]
    assert thoughts.closing_ids(tokenizer.encode("so\n")) == [tokenizer.think_close_id, *newline, *newline]


def test_a_folder_without_a_chat_format_is_refused(tmp_path):
    make_tokenizer().save(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(CheckpointError, match="has no chat template"):
        Thoughts(Tokenizer.load(tmp_path))
