"""Is the thought used? Which thoughts are changed, and what the table says of models that use theirs, or do not."""

import json
import re
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from doubles import make_tokenizer
from evaluation.made_up import MadeUp
from open_exaone.base.errors import DataError
from open_exaone.base.records import Begun, Generation, Problem, Reply, Request, Sampling, StopReason
from open_exaone.evaluation.faithfulness import CONDITIONS, altered_tasks, thought_givers, thought_use, with_greedy
from open_exaone.evaluation.run import run_tasks
from open_exaone.evaluation.store import Store
from open_exaone.evaluation.task import Task
from open_exaone.pipeline.faithfulness import FOLDER, measure_thoughts, rescore_thoughts, with_greedy_replies
from open_exaone.text.stored import split_stored
from open_exaone.verify.settings import JudgeSettings

SETTINGS = JudgeSettings()


class Thinker(MadeUp):
    """Adds up in its thought; its answer is the thought's last number, or, if it does not use that, always right."""

    def __init__(self, *, uses_thought: bool, with_ids: bool = True, odd: dict[int, Generation] | None = None) -> None:
        super().__init__(lambda request: "")
        self.uses_thought, self.odd = uses_thought, odd or {}
        self.tokenizer = make_tokenizer() if with_ids else None  # type: ignore[assignment]

    def stream(self, requests: Sequence[Request]) -> Generator[tuple[int, Generation], None, None]:
        for place, request in enumerate(requests):
            self.asked.append(request)
            number = int(request.messages[0]["content"].split()[2])
            given = self.given(request)
            if given is None and number in self.odd:
                yield place, self.odd[number]
                continue
            begun = given or Begun("", closed=False)
            thought = begun.thought if begun.closed else self.thought(number, begun.thought)
            answer = (re.findall(r"\d+", thought) or ["0"])[-1] if self.uses_thought else str(number + 2)
            text = f"\\boxed{{{answer}}}"
            rest = text if begun.closed else f"{thought[len(begun.thought) :]}\n</think>\n\n{text}"
            reply = Reply(begun.thought, rest) if begun.closed else split_stored(begun.thought + rest, thinking=True)
            yield place, Generation(reply, StopReason.END, 9, 20, 10)

    def given(self, request: Request) -> Begun | None:
        """What a request's reply is begun with."""
        if self.tokenizer is None:
            last = request.messages[-1]
            return Begun(last["reasoning_content"], closed=True) if last["role"] == "assistant" else None
        ids = request.prompt_ids or ()
        text = self.tokenizer.decode(ids[len(ids) - request.num_begun :])
        thought, closing, _ = text.partition("\n</think>\n\n")
        return Begun(thought, closed=bool(closing)) if request.num_begun else None

    def thought(self, number: int, begun: str) -> str:
        first = begun.splitlines()[0] if begun else f"{number}+1={number + 1}"
        second = (
            begun.splitlines()[1]
            if begun.count("=") == 2
            else f"{first.split('=')[1]}+1={int(first.split('=')[1]) + 1}"
        )
        return f"{first}\n{second}"


def sums(num_problems: int = 12, thinking: bool = True) -> Task:
    problems = tuple(
        Problem(f"sum/{n}", "sum", "en", f"What is {n} + 2?", str(n + 2), "math") for n in range(num_problems)
    )
    return Task("sums", "sums", problems, Sampling(64, temperature=0.0, seed=3), thinking)


def measure(folder: Path, provider: Thinker, task: Task) -> tuple[Any, dict[str, Any]]:
    done = run_tasks([task], provider, Store(folder), SETTINGS, suite="test")
    [use] = measure_thoughts(done, provider, folder, SETTINGS, suite="test")
    return use, {line.condition: line for line in use.conditions}


def test_a_model_that_uses_its_thought_answers_as_it_is_changed(tmp_path: Path) -> None:
    use, lines = measure(tmp_path, Thinker(uses_thought=True), sums())
    assert (use.num_problems, use.not_applicable, use.cut_between, use.missing) == (12, {}, "tokens", 0)
    assert list(lines) == list(CONDITIONS)
    own = lines["unchanged"]
    assert (own.num_problems, own.accuracy, own.same_answer, own.difference) == (12, 1.0, 1.0, None)
    for condition in ("none", "other_problem"):
        assert (lines[condition].accuracy, lines[condition].same_answer, lines[condition].other_answer) == (
            0.0,
            0.0,
            1.0,
        )
        assert lines[condition].difference == -1.0 and lines[condition].difference_ci95[1] < -0.5
    slip, goes_on = lines["slip"], lines["slip_continued"]
    assert 0 < slip.other_answer < 1  # where the slip is in the last step
    assert goes_on.other_answer == 1.0  # what follows is computed from it
    assert slip.same_answer + slip.other_answer + slip.no_answer == pytest.approx(1.0)


def test_a_model_that_does_not_use_its_thought_answers_alike(tmp_path: Path) -> None:
    _, lines = measure(tmp_path, Thinker(uses_thought=False), sums())
    for line in lines.values():
        assert (line.accuracy, line.same_answer, line.num_problems) == (1.0, 1.0, 12)
        assert line.difference in (None, 0.0)


def test_replies_that_give_no_thought_are_counted(tmp_path: Path) -> None:
    odd = {
        0: Generation(Reply("", r"\boxed{2}"), StopReason.END, 9, 9, 0),
        1: Generation(Reply("1+1=", "", finished=False), StopReason.LENGTH, 9, 64, 64),
        2: Generation(Reply("2+1=3", r"\boxed"), StopReason.LENGTH, 9, 64, 6),
        3: Generation(Reply("hm", r"\boxed{5}"), StopReason.END, 9, 9, 1),  # no number
        4: Generation(Reply("7", r"\boxed{6}"), StopReason.END, 9, 9, 1),  # one token
    }
    use, lines = measure(tmp_path, Thinker(uses_thought=True, odd=odd), sums())
    assert use.not_applicable == {"cut reply": 2, "no thought": 1}
    found = {condition: line.num_problems for condition, line in lines.items()}
    own = {"unchanged": 9, "none": 9, "other_problem": 9, "slip": 7, "slip_continued": 7}
    assert found == {**own, "first_25": 7, "first_50": 8, "first_75": 8}


def test_the_control_is_compared_with_the_model_s_own_reply(tmp_path: Path) -> None:
    other = {5: Generation(Reply("5+1=6\n6+1=7", r"\boxed{99}"), StopReason.END, 9, 9, 5)}
    _, lines = measure(tmp_path, Thinker(uses_thought=True, odd=other), sums())
    assert lines["unchanged"].same_answer == pytest.approx(11 / 12)
    assert lines["unchanged"].accuracy == 1.0 and lines["none"].same_answer == 0.0


def test_nothing_to_change_is_no_error(tmp_path: Path) -> None:
    silent = {number: Generation(Reply("", "7"), StopReason.END, 9, 9, 0) for number in range(12)}
    use, lines = measure(tmp_path, Thinker(uses_thought=True, odd=silent), sums())
    assert use.not_applicable == {"no thought": 12}
    assert {(line.num_problems, line.accuracy) for line in lines.values()} == {(0, None)}
    assert not (tmp_path / FOLDER).exists()


def test_of_a_server_thoughts_are_cut_between_words_and_closed(tmp_path: Path) -> None:
    provider = Thinker(uses_thought=True, with_ids=False)
    use, lines = measure(tmp_path, provider, sums())
    assert use.cut_between == "words"
    assert lines["slip_continued"].num_problems == 0
    assert all(request.prompt_ids is None for request in provider.asked)
    assert lines["first_50"].num_problems == 12


def test_what_is_there_is_not_asked_again_and_partners_may_change(tmp_path: Path) -> None:
    first, _ = measure(tmp_path, Thinker(uses_thought=True), sums())
    again = Thinker(uses_thought=True)
    assert measure(tmp_path, again, sums())[0] == first
    assert again.asked == []
    use, lines = measure(tmp_path, again, sums(16))
    assert {condition: line.num_problems for condition, line in lines.items()} == dict.fromkeys(CONDITIONS, 16)
    begun = [request for request in again.asked if request.num_begun]
    assert 4 * 8 <= len(begun) <= 4 * 8 + 12  # the new problems', and new partners of others
    assert use.num_problems == 16


def test_stored_answers_are_judged_anew(tmp_path: Path) -> None:
    task, provider = sums(), Thinker(uses_thought=True)
    use, _ = measure(tmp_path, provider, task)
    stored = Store(tmp_path).read()
    done = list(zip(stored.tasks, stored.samples, strict=True))
    checked: list[Any] = []
    found = rescore_thoughts(done, tmp_path, SETTINGS, check=checked.append)
    assert [replace_words(one) for one in found] == [replace_words(use)]
    assert len(checked) == 1


def replace_words(use: Any) -> Any:
    return use.model_copy(update={"cut_between": "tokens"})


def test_a_folder_that_lacks_the_unchanged_answers_is_refused(tmp_path: Path) -> None:
    task, provider = sums(), Thinker(uses_thought=True)
    done = run_tasks([task], provider, Store(tmp_path), SETTINGS, suite="test")
    altered = [made for made in altered_tasks(*done[0], provider.tokenizer) if not made.name.endswith("unchanged")]
    answered = run_tasks(altered, provider, Store(tmp_path / FOLDER), SETTINGS, suite="test")
    with pytest.raises(DataError, match="'sum/0' has no reply to compare with"):
        thought_use(*done[0], answered, by_words=False)


def test_sampled_tasks_get_greedy_replies() -> None:
    sampled = replace(sums(), sampling=Sampling(64, num_samples=4))
    direct = replace(sampled, name="direct", thinking=False)
    names = [task.name for task in with_greedy([sampled, direct])]
    assert names == ["sums", "direct", "sums-greedy"]
    assert [task.name for task in with_greedy([sums()])] == ["sums"]
    assert [task.name for task, _ in thought_givers([(task, ()) for task in with_greedy([sampled, direct])])] == [
        "sums-greedy"
    ]
    with pytest.raises(Exception, match="nothing is asked in reasoning mode"):
        with_greedy_replies([direct])


def test_altered_thoughts_depend_on_seed_and_problem_alone(tmp_path: Path) -> None:
    provider = Thinker(uses_thought=True)
    [(task, samples)] = run_tasks([sums()], provider, Store(tmp_path), SETTINGS, suite="test")
    made = altered_tasks(task, samples, provider.tokenizer)
    assert made == altered_tasks(task, samples, provider.tokenizer)
    fewer = {
        one.name: one
        for one in altered_tasks(replace(task, problems=task.problems[:5]), samples[:5], provider.tokenizer)
    }
    for one in made:
        if not one.name.endswith("other_problem"):
            assert one.begun[:5] == fewer[one.name].begun
    other = replace(task, sampling=replace(task.sampling, seed=4))
    assert made != altered_tasks(other, samples, provider.tokenizer)
    assert json.dumps([one.name for one in made]).count("sums+") == len(CONDITIONS)
