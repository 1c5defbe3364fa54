"""A task of one's own: `exaone eval RUN --suite examples/own_task/my_task.py:problems`."""

import json
import random


def problems() -> list[dict]:
    """Times to be written as minutes, each with a worked thought and a worked reply."""
    times = [(hours, minutes) for hours in range(1, 24) for minutes in range(1, 60)]
    random.Random(0).shuffle(times)
    return [problem(hours, minutes) for hours, minutes in times]


def problem(hours: int, minutes: int) -> dict:
    """One line of problems.jsonl: `question` and `answer` are needed; `thought` and `reply` only to learn from."""
    total = 60 * hours + minutes
    return {
        "question": f"How many minutes are {hours} h {minutes} min?",
        "answer": str(total),
        "thought": f"{hours} * 60 = {60 * hours}. {60 * hours} + {minutes} = {total}.",
        "reply": f"It is \\boxed{{{total}}}.",
        "verifier": "math",
    }


if __name__ == "__main__":  # python my_task.py > problems.jsonl
    for row in problems():
        print(json.dumps(row))
