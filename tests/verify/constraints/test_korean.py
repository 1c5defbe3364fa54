"""The same 25 types on Korean replies."""

import unicodedata
from typing import Any

import pytest

from open_exaone.verify.constraints.judge import check
from open_exaone.verify.constraints.korean import is_korean

CASES: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("keywords:existence", {"keywords": ["한국", "바다"]}, ["한국의 바다는 푸르다."], ["한국의 산은 푸르다."]),
    (
        "keywords:frequency",
        {"keyword": "사과", "frequency": 2, "relation": "at least"},
        ["사과는 사과다.", "사과를 사과나무에서 땄다."],
        ["사과는 달다."],
    ),
    (
        "keywords:forbidden_words",
        {"forbidden_words": ["학교", "AI"]},
        ["대학교와 학교생활을 말합니다.", "AIX는 운영 체제입니다."],
        ["학교", "학교에서는 배웁니다.", "이곳이 학교입니다.", "“학교”라고 했다.", "학교들까지도", "AI는 빠르다."],
    ),
    (
        "keywords:letter_frequency",
        {"letter": "ㄱ", "let_frequency": 3, "let_relation": "at least"},
        ["각과", "가구 ㄱ", "국가"],  # initials, finals and the letter alone
        ["가구", "까까꺾"],  # ㄲ is a letter of its own
    ),
    ("keywords:letter_frequency", {"letter": "가", "let_frequency": 2, "let_relation": "at least"}, ["가가"], ["각가"]),
    (
        "language:response_language",
        {"language": "ko"},
        ["오늘 서울은 맑고 따뜻합니다.", "Python의 list는 mutable 자료형이고, tuple은 바꿀 수 없는 자료형입니다."],
        ["Seoul is sunny and warm today.", "今日のソウルは晴れていて暖かいです。"],
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "at least"},
        ["왔다.보았다.이겼다."],
        ["왔다. 3.14를 보았다.", "1. 왔다.\n2. 갔다."],
    ),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, ["가\n***\n나"], ["가\n\n나"]),
    (
        "length_constraints:number_words",
        {"num_words": 3, "relation": "at least"},
        ["나는 학교에 간다.", "- 값은 약 3.5배"],
        ["약 3.5배", "값은 - 3.5배"],  # an eojeol is one word, a lone dash none
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "주말"},
        ["가\n\n주말 아침", "가\n\n주말에는 쉰다.", "가\n\n“주말”은 쉰다.", "가\n\n「주말」"],
        ["가\n\n주말농장은 멀다.", "가\n\n평일에는 쉰다.", "주말에는\n\n쉰다"],
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, ["[이름]님, [주소]로"], ["[이름]님"]),
    (
        "detectable_content:postscript",
        {"postscript_marker": "P.S."},
        ["안녕히.\n추신: 또 만나요.", "안녕.\n**추신** 또", "안녕\nP.S. 또 만나요."],
        ["추신수 선수를 보았다.", "안녕.\n추신수는 선수다.", "Bye for now.\n추신"],
    ),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, ["안녕.\n재추신: 또"], ["안녕.\n추신: 또"]),
    ("detectable_content:postscript", {"postscript_marker": "추신"}, ["안녕.\n추신: 또"], ["안녕.\nP.S. 또"]),
    (
        "detectable_format:number_bullet_lists",
        {"num_bullets": 2},
        ["• 하나\n• 둘", "ㆍ하나\n- 둘", "* 하나\n\n○ 둘"],
        ["• 하나", "하나 • 둘\n셋 · 넷"],
    ),
    (
        "detectable_format:constrained_response",
        {},
        ["제 대답은 예입니다.", "내 답변은 아니오입니다.", "저의 답은 아마도입니다.", "제 대답은 아닙니다."],
        ["예.", "제 대답은 글쎄요입니다.", "제 대답은 예입니다"],
    ),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, ["*중요*합니다."], ["* 하나\n* 둘"]),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "장", "num_sections": 2},
        ["제1장 처음\n제2장 끝", "1장 처음\n제 2 장 끝", "장 1 처음\n장 2 끝"],
        ["제1장 처음", "제일장 제이장"],
    ),
    ("detectable_format:json_format", {}, ['```json\n{"이름": "유나"}\n```'], ["{이름: 유나}"]),
    ("detectable_format:title", {}, ["<<제목>>\n글", "《제목》\n글", "≪제목≫\n글"], ["<제목>", "《》", "「제목」"]),
    ("combination:two_responses", {}, ["하나\n******\n둘"], ["하나\n******\n하나"]),
    ("combination:repeat_prompt", {"prompt_to_repeat": "시를 쓰세요."}, ["시를 쓰세요.\n봄"], ["네! 시를 쓰세요."]),
    (
        "startend:end_checker",
        {"end_phrase": "감사합니다."},
        ["끝입니다. 감사합니다.", "“끝입니다. 감사합니다.”"],
        ["감사합니다. 끝", "감사합니다"],
    ),
    (
        "startend:quotation",
        {},
        ["“안녕하세요.”", "「안녕」", '"안녕"', "『안녕』"],
        ["“안녕", "「안녕』", "‘안녕’", "《안녕》"],
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        ["AI와 GPU는 비싸다."],
        ["AI는 비싸다.", "인공지능은 비싸다."],
    ),
    (
        "change_case:english_capital",
        {},
        ["THE WEATHER IN SEOUL IS VERY NICE AND WARM TODAY."],
        ["오늘은 맑다.", "AI는 AI다."],
    ),
    ("change_case:english_lowercase", {}, ["the weather in seoul is very nice today."], ["오늘은 맑다.", "ai는 ai다."]),
    ("punctuation:no_comma", {}, ["쉼표 없이 쓴다."], ["네, 그래요.", "네， 그래요.", "사과、배"]),
]


@pytest.mark.parametrize(("name", "kwargs", "holding", "failing"), CASES)
def test_korean_texts_that_hold_and_that_fail(
    name: str, kwargs: dict[str, Any], holding: list[str], failing: list[str]
) -> None:
    assert [text for text in holding if not check(text, name, kwargs)] == []
    assert [text for text in failing if check(text, name, kwargs)] == []


@pytest.mark.parametrize(("name", "kwargs", "holding", "failing"), CASES)
def test_decomposed_korean_is_judged_as_composed(
    name: str, kwargs: dict[str, Any], holding: list[str], failing: list[str]
) -> None:
    decomposed = {
        key: unicodedata.normalize("NFD", value) if isinstance(value, str) and key != "letter" else value
        for key, value in kwargs.items()
    }
    for text in holding + failing:
        assert check(unicodedata.normalize("NFD", text), name, decomposed) == (text in holding), text


def test_the_script_that_leads_decides() -> None:
    assert is_korean("AI는 좋은 도구입니다.") and is_korean("안녕")
    assert (
        is_korean("Python의 list는 바꿀 수 있는 자료형이다.")
        and not is_korean("The Korean word is 안녕.")
        and not is_korean("")
        and not is_korean("123")
    )


def test_rules_for_korean_leave_english_replies_alone() -> None:
    assert not check("“A quotation.”", "startend:quotation", {})
    assert not check("• a\n• b", "detectable_format:number_bullet_lists", {"num_bullets": 2})
    assert not check("《Title》 of it", "detectable_format:title", {})
