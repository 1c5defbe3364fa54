"""Replies as a model under training may write them: pieces of every notation, repeated, nested and broken off."""

import random
from collections.abc import Iterator

PIECES = r"""
\boxed{ } \boxed \text{ \frac{ \dfrac \sqrt{ \left( \right) \left. \begin{pmatrix} \end{pmatrix} \\ & ^ _ ^{ _{ { } ( ) [ ] |
$ $$ \( \) \[ \] # ## **  * ` ``` ```python % %% \% ! !! ? . , ; : ' " / - + = < > ~ @ \ \n \t 0 1 3 7 12 99999 1e999 -0 0x3 1/2
3.14 1,234 1,2 ½ ² ∞ ∅ √ π × · − – … é ß ı 한국 가 답은 정답: 입니다 ① あ 中 ع 𝟛 👍 \u200b \u202e \x00 \x1b[2J \x1b]52;c;aGk=\x07 nan inf None
True A B (C) D. Answer: The answer is Final **Answer** x y sin \sin \cos \pi \infty \cup \in \pm \times \cdot \% \$ e^ 10^ 9** ** //
<think> </think> <tool_call> </tool_call> [|endofturn|] <answer> </answer> import os def f(x): return x print( while True: pass
""".split(" ")
PIECES = [
    piece.encode().decode("unicode_escape").encode("latin-1", "ignore").decode("latin-1")
    if "\\x" in piece or "\\u" in piece
    else piece
    for piece in PIECES
]


def made_replies(count: int, seed: int) -> Iterator[str]:
    """That many replies, the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(count):
        parts = [_part(draw) for _ in range(draw.randint(1, 12))]
        body = draw.choice(("", " ")).join(parts)
        form = draw.random()
        if form < 0.5:
            yield f"{_part(draw)} \\boxed{{{body}}}"
        elif form < 0.6:
            yield f"```python\n{body}\n```"
        else:
            yield body


def _part(draw: random.Random) -> str:
    piece = draw.choice(PIECES)
    if draw.random() < 0.1:
        return piece * draw.choice((2, 3, 50, 500))
    if draw.random() < 0.05:
        return "".join(
            chr(draw.choice((draw.randrange(0x250), draw.randrange(0x3000), draw.randrange(0x110000))))
            for _ in range(5)
        )
    return piece
