"""Judging a reply that should hold a program, by running it against its tests."""

import re
from collections.abc import Mapping
from dataclasses import replace
from textwrap import dedent

from open_exaone.base.errors import DataError
from open_exaone.base.machine import CLOCK_FACTOR
from open_exaone.base.records import Verdict, VerdictStatus
from open_exaone.sandbox.limits import too_long, too_long_by_the_clock
from open_exaone.sandbox.programs import Limits, ProgramResult, ProgramStatus, run_program
from open_exaone.verify.code.compare import output_difference, shown
from open_exaone.verify.code.extract import Asked, find_program
from open_exaone.verify.code.forms import Calls, Runs, Script, Tests, read_tests
from open_exaone.verify.code.pair import run_with_tests
from open_exaone.verify.code.prelude import with_header, with_prelude
from open_exaone.verify.settings import JudgeSettings

MAX_PROGRAM_CHARS = 200_000
_MAX_EXTRACTED_CHARS = 10_000
_START_S = 1.0  # what starting both sides may take, on top of the tests
Finding = tuple[VerdictStatus, str]  # the status, and why


def judge_code(answer: str, gold: str, metadata: Mapping[str, object], settings: JudgeSettings) -> Verdict:
    """Runs the program of a reply against its tests, up to the first that fails.

    Args:
        gold: the tests as JSON, where the metadata has none.
        metadata: "tests", in one of `forms.FORMS`, as values or as JSON text.

    Raises:
        ValueError: the tests are in no known form; names the field.
    """
    tests = read_tests(gold, metadata)
    program = find_program(answer, _asked(tests))
    if program is None:
        return Verdict(VerdictStatus.UNPARSED, None, "The answer has no complete block of Python.")
    program = program.encode(errors="replace").decode()  # half a surrogate pair is no text
    extracted = program if len(program) <= _MAX_EXTRACTED_CHARS else program[: _MAX_EXTRACTED_CHARS - 1] + "…"
    if len(program) > MAX_PROGRAM_CHARS:
        why = f"The program is longer than {MAX_PROGRAM_CHARS:,} characters."
        return Verdict(VerdictStatus.WRONG, extracted, why)
    if isinstance(tests, Runs):
        status, why = _run(program, tests, settings)
    elif isinstance(tests, Calls):
        status, why = _call(program, tests, settings)
    else:
        status, why = _script(program, tests, settings)
    return Verdict(status, extracted, why)


def _asked(tests: Tests) -> Asked:
    if isinstance(tests, Script):
        return Asked(tests.names, tests.prompt)
    return Asked(frozenset({tests.function}) if isinstance(tests, Calls) else frozenset())


def _limits(settings: JudgeSettings, num_tests: int = 1, start_s: float = 0.0) -> Limits:
    time_s = settings.program_time_limit_s * num_tests + start_s
    return Limits(time_s=time_s, memory_bytes=settings.program_memory_bytes)


def _run(program: str, tests: Runs, settings: JudgeSettings) -> Finding:
    program, limits = with_prelude(_flush_left(program)), _limits(settings)
    for number, (given, expected) in enumerate(tests.cases, start=1):
        room = max(limits.output_bytes, 2 * len(expected.encode(errors="replace")))
        enough = replace(limits, output_bytes=room)
        result = run_program(program, given, enough, unsafe=settings.unsafe_code_execution)
        place = f"Test {number} of {len(tests.cases)}"
        if result.status is not ProgramStatus.OK:
            return _not_ok(result, place)
        if difference := output_difference(result.stdout, expected):
            return VerdictStatus.WRONG, f"{place}: {difference}."
    return _all_pass(len(tests.cases))


def _call(program: str, tests: Calls, settings: JudgeSettings) -> Finding:
    about = {"function": tests.function, "cases": tests.cases, "unwraps": tests.unwraps}
    limit_s, num_tests = settings.program_time_limit_s, len(tests.cases)
    spec = {**about, "limit_s": limit_s, "clock_s": CLOCK_FACTOR * limit_s}
    limits = _limits(settings, num_tests + 1, _START_S)
    return _with_tests(with_prelude(_flush_left(program)), spec, num_tests, limits, settings)


def _script(program: str, tests: Script, settings: JudgeSettings) -> Finding:
    spec: dict[str, object] = {"tests": tests.tests, "setup": tests.setup, "entry_point": tests.entry_point}
    is_begun = tests.prompt and tests.entry_point
    program = _with_prompt(program, tests.prompt, str(tests.entry_point)) if is_begun else _flush_left(program)
    return _with_tests(program, spec, len(tests.tests), _limits(settings), settings)


def _with_prompt(program: str, prompt: str, entry_point: str) -> str:
    """HumanEval's program: what the prompt has before the function, and the function; or the prompt and its end.

    A reply that begins with an indented line and does not define the function goes on where the prompt stops.
    """
    definition = re.compile(rf"^(?:async[ \t]+)?def[ \t]+{re.escape(entry_point)}\b", re.MULTILINE)
    if _is_indented(program) and not definition.search(dedent(program)):
        return f"{prompt.rstrip()}\n{program}"
    begins = definition.search(prompt)
    return with_header(_flush_left(program), prompt[: begins.start()]) if begins else _flush_left(program)


def _flush_left(program: str) -> str:
    """The program without the indentation that all its lines share."""
    return dedent(program) if _is_indented(program) else program


def _is_indented(program: str) -> bool:
    return program.lstrip("\n")[:1] in (" ", "\t")


def _with_tests(
    program: str, spec: Mapping[str, object], num_tests: int, limits: Limits, settings: JudgeSettings
) -> Finding:
    report, tests, solution = run_with_tests(program, spec, limits, unsafe=settings.unsafe_code_execution)
    for result in (tests, solution):
        if result.status is ProgramStatus.REFUSED:
            return _not_ok(result, "The sandbox")
    if report and report["status"] == "passed":
        return _all_pass(num_tests)
    if report is None:
        return _without_report(tests, solution)
    if report["status"] == "broken":
        raise DataError(f"tests: {report['why']}")
    place = f"Test {report['test']} of {num_tests}" if report["test"] else "Before the tests"
    if report["status"] == "clock":
        return VerdictStatus.TIMEOUT, f"{place}: {too_long_by_the_clock(settings.program_time_limit_s)}"
    if report["status"] == "timeout" or solution.status is ProgramStatus.TIMEOUT:
        why = too_long(settings.program_time_limit_s) if "limit_s" in spec else solution.why
        return VerdictStatus.TIMEOUT, f"{place}: {why}"
    status = VerdictStatus.ERROR if report["status"] == "unsupported" else VerdictStatus.WRONG
    return status, f"{place}: {_stopped_by(solution) or report['why']}."


def _not_ok(result: ProgramResult, place: str) -> Finding:
    """What becomes of a program that did not end well; one that the sandbox refuses says nothing about the reply."""
    if result.status is ProgramStatus.REFUSED:
        return VerdictStatus.ERROR, _sentence(result.why)
    status = VerdictStatus.TIMEOUT if result.status is ProgramStatus.TIMEOUT else VerdictStatus.WRONG
    lines = [line.strip() for line in result.stderr[-2000:].split("\n") if line.strip()]
    raised = f" ({lines[-1][:120]})" if lines and result.status is ProgramStatus.FAILED else ""
    return status, f"{place}: {result.why.rstrip('.')}{raised}."


def _without_report(tests: ProgramResult, solution: ProgramResult) -> Finding:
    """The tests did not reach their end. Only a program can slow them down or fill their memory."""
    if ProgramStatus.TIMEOUT in (tests.status, solution.status):
        return VerdictStatus.TIMEOUT, _sentence((tests if tests.status is ProgramStatus.TIMEOUT else solution).why)
    if why := _stopped_by(solution):
        return VerdictStatus.WRONG, _sentence(why)
    if tests.status in (ProgramStatus.MEMORY, ProgramStatus.OUTPUT) or (tests.exit_code or 0) < 0:
        return VerdictStatus.WRONG, "The program returned more than its tests can hold in memory."
    return VerdictStatus.ERROR, f"The tests ended without a verdict: {shown(tests.stderr[-120:] or tests.why, 120)}."


def _stopped_by(solution: ProgramResult) -> str | None:
    """The limit that a program ran into, if any; else its tests know better why they failed."""
    return solution.why.rstrip(".") if solution.status in (ProgramStatus.MEMORY, ProgramStatus.OUTPUT) else None


def _all_pass(num_tests: int) -> Finding:
    return VerdictStatus.CORRECT, "The test passes." if num_tests == 1 else f"All {num_tests} tests pass."


def _sentence(text: str) -> str:
    return f"{text.rstrip('.')}."
