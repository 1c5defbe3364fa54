"""Replies as a model under training may write them: pieces of every notation, repeated, nested and broken off."""

import random
from collections.abc import Iterator

LATEX = r"""
\boxed{ } \boxed \text{ \frac{ \dfrac \sqrt{ \left( \right) \left. \begin{pmatrix} \end{pmatrix} \\ & ^ _ ^{ _{ { }
( ) [ ] | $ $$ \( \) \[ \] % %% \% ! !! \sin \cos^{-1} \pi \infty \cup \in \pm \times \cdot \overline{ \binom{ e^ 10^
9** //"""
TEXT = """
# ## ** * ` ``` ```python ? . , ; : ' " / - + = < > ~ @ 0 1 3 7 12 99999 1e999 -0 0x3 1/2 3.14 1,234 1,2 nan inf None
True A B (C) D. Answer: The answer is **Answer** x y import os def f(x): return x print( while True: pass <think>
</think> <tool_call> </tool_call> [|endofturn|] <answer> </answer>
한국 가 답은 정답: 입니다 ½ ² ∞ ∅ √ π × · − – … é ß ı ① あ 中 ع 𝟛"""
PIECES = [
    *LATEX.split(),
    *TEXT.split(),
    "\n",
    "\t",
    "\0",
    "\x1b[2J",
    "\x1b]52;c;aGk=\x07",
    "\u200b",
    "\u202e",
    "\ud800",
]
CHARACTERS = (0x250, 0x3000, 0x110000)


def made_replies(count: int, seed: int) -> Iterator[str]:
    """That many replies, the same for the same seed; half of them have something in a box."""
    draw = random.Random(seed)
    for _ in range(count):
        body = draw.choice(("", " ")).join(_part(draw) for _ in range(draw.randint(1, 12)))
        yield rf"{_part(draw)} \boxed{{{body}}}" if draw.random() < 0.5 else body


def _part(draw: random.Random) -> str:
    if draw.random() < 0.05:
        return "".join(chr(draw.randrange(draw.choice(CHARACTERS))) for _ in range(5))
    return draw.choice(PIECES) * draw.choice((1,) * 12 + (2, 50, 500))
