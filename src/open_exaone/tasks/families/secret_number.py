"""Which number gives the stated result: a linear equation in words, undone from the end."""

import random

from open_exaone.tasks.family import Draft, our_family
from open_exaone.tasks.korean import attach
from open_exaone.tasks.thoughts import work_out

MAX_VALUE = 60
UNDO = {"+": "-", "-": "+", "*": "/", "/": "*"}
ENGLISH = {"+": "add {}", "-": "subtract {}", "*": "multiply by {}", "/": "divide by {}"}
KOREAN = {"+": ("을/를", "더하"), "-": ("을/를", "빼"), "*": ("을/를", "곱하"), "/": ("으로/로", "나누")}

Operation = tuple[str, int]


def compose(rng: random.Random, language: str, harder: bool) -> Draft:
    """A number of 2 to 30 and two or three operations, harder four to six, its values between 2 and 60 on the way."""
    value = secret = rng.randint(2, 30)
    operations = list[Operation]()
    for _ in range(rng.randint(*((4, 6) if harder else (2, 3)))):
        operations.append(_operation(rng, value))
        value = _apply(value, *operations[-1])
    korean = language == "ko"
    question = (_korean if korean else _english)(rng, operations, value)
    steps = []
    for operator, number in reversed(operations):
        steps.append(work_out(value, UNDO[operator], number))
        value = _apply(value, UNDO[operator], number)
    return Draft(question, str(secret), "그 수는" if korean else "The number", tuple(steps))


def _operation(rng: random.Random, value: int) -> Operation:
    """An operation that keeps the value whole, above 1 and small; adding or taking away a little always does."""
    operator, number = rng.choice("+-*/"), rng.randint(2, 9)
    whole = operator != "/" or value % number == 0
    if whole and 2 <= _apply(value, operator, number) <= MAX_VALUE:
        return operator, number
    return ("+", number) if value + number <= MAX_VALUE else ("-", number)


def _apply(value: int, operator: str, number: int) -> int:
    return {"+": value + number, "-": value - number, "*": value * number, "/": value // number}[operator]


def _english(rng: random.Random, operations: list[Operation], result: int) -> str:
    story = ", ".join(ENGLISH[operator].format(number) for operator, number in operations)
    return rng.choice(
        [
            f"Think of a number, {story}. You get {result}. What is the number?",
            f"I take a secret number, {story} and get {result}. Find the number.",
        ]
    )


def _korean(rng: random.Random, operations: list[Operation], result: int) -> str:
    return rng.choice(
        [
            f"어떤 수{_story(operations)}면 {result}입니다. 어떤 수는 얼마입니까?",
            f"비밀의 수{_story(operations)}면 {attach(result, '이/가')} 됩니다. 그 수를 구하세요.",
        ]
    )


def _story(operations: list[Operation]) -> str:
    """`에 3을 곱하고 7을 더하`: the first operation says what is done to the number."""
    opening = {"+": "에", "-": "에서", "*": "에", "/": "를"}[operations[0][0]]
    actions = []
    for operator, number in operations:
        particle, verb = KOREAN[operator]
        actions.append(f"{attach(number, particle)} {verb}")
    return f"{opening} " + "고 ".join(actions)


FAMILY = our_family("secret_number", compose)
