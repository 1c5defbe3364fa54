"""The tables of docs/suites.md, from the suites' files. Run as a script it writes them anew."""

import re
from pathlib import Path

from open_exaone.evaluation.suite import SHIPPED, SuiteTask, load_suite

PAGE = Path(__file__).parents[2] / "docs" / "suites.md"
HEAD = f"""| task | k | temperature | top-p | presence penalty | longest reply | metrics | ours |
{"|---" * 8}|
"""


def table(name: str) -> str:
    """One suite's tasks, with what LG did not publish in the last column."""
    return HEAD + "".join(map(_row, load_suite(name).tasks))


def _row(task: SuiteTask) -> str:
    greedy = task.temperature == 0
    budgets = f"budgets {', '.join(map(str, task.budgets))}, and {task.answer_tokens:,} for the answer"
    cells = (
        f"`{task.label}`",
        str(task.k),
        "greedy" if greedy else f"{task.temperature:g}",
        "" if greedy else f"{task.top_p:g}",
        f"{task.presence_penalty:g}",
        budgets if task.budgets else f"{task.max_new_tokens:,}",
        ", ".join(task.metrics),
        ", ".join(item.replace("_", " ") for item in task.not_published),
    )
    return f"| {' | '.join(cells)} |\n"


def main() -> None:
    """Puts each suite's table under its heading, `## name`."""
    text = PAGE.read_text(encoding="utf-8")
    for name in SHIPPED:
        text = re.sub(
            rf"(## {re.escape(name)}\n(?:(?!\n## ).)*?)\| task \|.*?\n(?!\|)", rf"\1{table(name)}", text, flags=re.S
        )
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
