"""Replies that are right and replies that are wrong, for any problem of a benchmark; a mock endpoint answers so too."""

from open_exaone.base.records import Problem
from open_exaone.verify.constraints.judge import follow
from tasks.benchmarks.constraint_replies import follow_all

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def gold_reply(problem: Problem) -> str:
    """States the gold answer in the form that the prompt asks for; of IFEval, follows the instructions.

    Raises:
        ValueError: the problem holds no answer to state.
    """
    if problem.verifier == "constraints":
        return follow_all(problem)
    if not problem.answer:
        raise ValueError(f"{problem.id}: has no answer of its own")
    if problem.verifier == "code":
        return f"Here it is.\n\n```python\n{problem.answer}\n```"
    return f"So the answer is \\boxed{{{problem.answer}}}."


def wrong_reply(problem: Problem) -> str:
    """An answer in the form asked for that is not the right one."""
    if problem.verifier == "constraints":
        refusals = ("No, I would rather not.", "no no NO", "")
        return next(reply for reply in refusals if not all(follow(reply, problem.metadata)))
    if problem.verifier == "code":
        return "```python\nprint('no idea')\n```"
    if problem.verifier == "choice":
        options = problem.metadata["options"]
        assert isinstance(options, tuple)
        right = LETTERS.index(problem.answer)
        other = next(i for i in (*range(right + 1, len(options)), *range(right)) if options[i] != options[right])
        return f"So the answer is \\boxed{{{LETTERS[other]}}}."
    is_whole = problem.answer.lstrip("-").isdecimal()
    return f"So the answer is \\boxed{{{int(problem.answer) + 1 if is_whole else -987654321}}}."
