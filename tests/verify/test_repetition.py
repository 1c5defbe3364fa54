"""How much of a text repeats itself."""

import pytest

from open_exaone.verify.repetition import repeated_share

PROSE = (
    "We first count the apples in the basket, of which there are twelve, and then take away those that Mina ate on "
    "Monday. Since she ate a third of them, eight are left for the rest of the week, which is one more than she needs."
)


@pytest.mark.parametrize(
    "text", ["", "wait wait wait", PROSE, "사과가 열두 개 있고 미나가 네 개를 먹었으므로 여덟 개가 남습니다."]
)
def test_prose_and_short_texts_hardly_repeat(text: str) -> None:
    assert repeated_share(text) < 0.05


@pytest.mark.parametrize("loop", ["So it is five. ", "그러므로 답은 오입니다. ", "a", "아", "!?", "1 + "])
def test_a_loop_repeats_whatever_it_is_of(loop: str) -> None:
    assert repeated_share(PROSE + loop * 2000) > 0.8


def test_more_of_a_loop_is_more_repetition() -> None:
    shares = [repeated_share(PROSE + " So it is five." * times) for times in (0, 5, 20, 80)]
    assert shares == sorted(set(shares)) and shares[-1] < 1
