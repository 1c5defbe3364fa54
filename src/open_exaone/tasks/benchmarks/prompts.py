"""What the user turn says. The first two are LG's (EXAONE Deep's README); the code prompts are ours.

Of LG's choice prompt the README prints two backslashes before `boxed`, a slip of its raw string: it holds one here.
"""

from collections.abc import Sequence

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

SHORT_ANSWER = r"""{question}

Please reason step by step, and put your final answer within \boxed{}."""

CHOICE = (  # its spaces are LG's: before the colons, and one on the line above the instruction
    "Question : {question}\n\nOptions :\n{options}\n \n"
    "Please reason step by step, and you should write the correct option alphabet ({letters}) within \\boxed{}."
)

# Ours: LG's prompt for programs (EXAONE Deep's report, figure 6) is not published in a form that we could read.
CODE_STDIN = """{question}

Write a Python program that reads its input from stdin and prints its output to stdout. \
Put the whole program into one block that starts with ```python and ends with ```."""

CODE_STARTER = """{question}

Complete this starter code:
```python
{code}
```
Put the whole solution into one block that starts with ```python and ends with ```."""

CODE_FUNCTION = """Complete this Python function:
```python
{code}
```
Put the whole function, with the imports that it needs, into one block that starts with ```python and ends with ```."""

CODE_TESTS = """{question}

Your code must pass these tests:
```python
{code}
```
Put the whole solution into one block that starts with ```python and ends with ```."""


def fill(template: str, **parts: str) -> str:
    """The template with its {parts} replaced, each once; braces within the parts stay as they are.

    Raises:
        ValueError: the template has no place for a part.
    """
    places = sorted((template.find(f"{{{name}}}"), f"{{{name}}}", text) for name, text in parts.items())
    filled, done = [], 0
    for start, place, text in places:
        if start < 0:
            raise ValueError(f"the prompt has no place for {place}")
        filled += [template[done:start], text]
        done = start + len(place)
    return "".join([*filled, template[done:]])


def short_answer(question: str) -> str:
    """LG's prompt for a question with a short answer."""
    return fill(SHORT_ANSWER, question=question)


def choice(question: str, options: Sequence[str]) -> str:
    """LG's prompt for multiple choice, with the letters that the problem has: "A, B, C or D"."""
    return fill(CHOICE, question=question, options=listed(options), letters=letters_of(len(options)))


def listed(options: Sequence[str]) -> str:
    """One option a line, `A) ...`."""
    return "\n".join(f"{letter}) {option}" for letter, option in zip(LETTERS, options, strict=False))


def letters_of(num_options: int) -> str:
    """ "A, B, C or D" for four."""
    return f"{', '.join(LETTERS[: num_options - 1])} or {LETTERS[num_options - 1]}"
