"""The words of the needle tests in both languages: filler text, and how facts are stated and asked for."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from open_exaone.tasks.korean import attach


@dataclass(frozen=True, slots=True)
class Words:
    """One language. No filler speaks of codes, numbers or variables."""

    opening: str
    box: str  # the form of the answer
    names: tuple[str, ...]  # of things that have codes; none of them is in the filler
    sentence: Callable[[random.Random], str]  # one of filler
    fact: Callable[[str, str], str]  # (name, number)
    ask_one: Callable[[str], str]  # (name)
    ask_all: Callable[[str], str]  # (name)
    ask_variables: Callable[[str], str]  # (number)


_EN_NOUNS = ("gardener", "teacher", "baker", "sailor", "painter", "farmer", "tailor", "fox", "heron", "cart", "lamp")
_EN_ADJECTIVES = ("quiet", "green", "old", "bright", "cold", "gentle", "tall", "dusty", "warm", "grey", "slow", "pale")
_EN_VERBS = ("waits", "rests", "stays", "stops", "returns", "wakes", "hums", "turns", "stands", "passes")
_EN_PLACES = ("river", "market", "library", "meadow", "bakery", "hill", "school", "orchard", "pond", "valley", "field")
_EN_TIMES = ("in spring", "in autumn", "at noon", "in the evening", "on Sundays", "after the rain", "before dawn")

_KO_NOUNS = ("정원사", "선생님", "제빵사", "선원", "화가", "농부", "재단사", "여우", "왜가리", "수레", "등불")
_KO_ADJECTIVES = (
    "조용한",
    "푸른",
    "오래된",
    "밝은",
    "차가운",
    "부드러운",
    "느린",
    "작은",
    "따뜻한",
    "낡은",
    "흰",
    "바쁜",
)
_KO_VERBS = ("기다립니다", "쉽니다", "머무릅니다", "멈춥니다", "돌아옵니다", "잠듭니다", "서 있습니다", "지나갑니다")
_KO_PLACES = ("강가", "시장", "도서관", "풀밭", "빵집", "언덕", "학교", "과수원", "연못", "골짜기", "들판")
_KO_TIMES = ("봄에는", "가을에는", "한낮에", "저녁마다", "일요일마다", "비가 온 뒤에", "해 뜨기 전에")


def _english(rng: random.Random) -> str:
    subject = f"{rng.choice(_EN_ADJECTIVES)} {rng.choice(_EN_NOUNS)}"
    return f"The {subject} {rng.choice(_EN_VERBS)} by the {rng.choice(_EN_PLACES)} {rng.choice(_EN_TIMES)}."


def _korean(rng: random.Random) -> str:
    subject = attach(f"{rng.choice(_KO_ADJECTIVES)} {rng.choice(_KO_NOUNS)}", "이/가")
    return f"{rng.choice(_KO_TIMES)} {subject} {rng.choice(_KO_PLACES)}에서 {rng.choice(_KO_VERBS)}."


WORDS: Mapping[str, Words] = {
    "en": Words(
        opening="Read the text and answer the question below it.\n\n",
        box=r"Put the answer within \boxed{}.",
        names=("harbour", "tower", "bridge", "garden", "museum", "theatre", "station", "palace", "lighthouse", "mill"),
        sentence=_english,
        fact=lambda name, number: f"A code of the {name} is {number}.",
        ask_one=lambda name: f"What is the code of the {name}?",
        ask_all=lambda name: f"What are all the codes of the {name}, in the order of the text, with commas between?",
        ask_variables=lambda number: (
            f"Which variables have the value {number}? Name all, in the order in which the text sets them, "
            "with commas between."
        ),
    ),
    "ko": Words(
        opening="글을 읽고 아래의 물음에 답하십시오.\n\n",
        box=r"답은 \boxed{} 안에 쓰십시오.",
        names=("항구", "탑", "다리", "정원", "박물관", "극장", "기차역", "궁전", "등대", "방앗간"),
        sentence=_korean,
        fact=lambda name, number: f"{name}의 암호는 {number}입니다.",
        ask_one=lambda name: f"{name}의 암호는 무엇입니까?",
        ask_all=lambda name: f"{name}의 암호는 모두 무엇입니까? 글에 나오는 차례로, 쉼표로 나누어 쓰십시오.",
        ask_variables=lambda number: (
            f"값이 {number}인 변수는 무엇입니까? 글에서 정해지는 차례로 모두, 쉼표로 나누어 쓰십시오."
        ),
    ),
}
