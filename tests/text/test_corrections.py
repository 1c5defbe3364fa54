"""A line of a thought that the next one corrects is not learned, and nothing else changes."""

from hypothesis import given
from hypothesis import strategies as st

from open_exaone.text.chat import Dialogue
from open_exaone.text.tokenizer import Tokenizer

WAIT = ("Wait, ", "잠깐, ")
steps = st.sampled_from(["4+7=11", "11-2=9", "pens:3*4=12", "", "Wait a bit", "답:7", "a Wait, b"])
lines = st.tuples(steps, st.sampled_from(["", *WAIT]))


def of_thought(thought: str) -> Dialogue:
    reply = {"role": "assistant", "content": "It is 9.", "reasoning_content": thought}
    return Dialogue(({"role": "user", "content": "Q"}, reply), thinking=True, learned=(1,))


@given(thought=st.lists(lines, min_size=1, max_size=6))
def test_only_the_lines_that_are_corrected_leave_the_mask(tokenizer: Tokenizer, thought: list[tuple[str, str]]) -> None:
    written = [opening + step for step, opening in thought]
    dialogue = of_thought("\n".join(written))
    plain, cut = tokenizer.render_dialogues([dialogue, dialogue._replace(corrections=WAIT)])
    assert isinstance(plain, tuple)
    assert isinstance(cut, tuple)
    assert cut[0] == plain[0]
    left_out = [id for id, before, after in zip(cut[0], plain[1], cut[1], strict=True) if before and not after]
    corrected = [
        line for line, following in zip(written, [*written[1:], ""], strict=True) if following.startswith(WAIT)
    ]
    assert tokenizer.decode(left_out) == "".join(corrected)
    assert all(before or not after for before, after in zip(plain[1], cut[1], strict=True))


def test_a_question_is_never_learned(tokenizer: Tokenizer) -> None:
    dialogue = Dialogue(
        ({"role": "user", "content": "1+1=3\nWait, no"}, {"role": "assistant", "content": "2"}), learned=(1,)
    )
    assert tokenizer.render_dialogues([dialogue]) == tokenizer.render_dialogues([dialogue._replace(corrections=WAIT)])
