"""`exaone verify-real`: a published model, checked on this machine."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclopts import Parameter

from open_exaone.base.terminal import Console
from open_exaone.cli.flags import BenchmarkRows, MachineFlags, Model


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class VerifyRealArguments:
    """The flags of `exaone verify-real`."""

    out: Path | None = None
    """The folder of the report; runs/verify-real/NAME if left out."""
    rows: BenchmarkRows = field(default_factory=BenchmarkRows)
    problems: int | None = None
    """The number of MATH-500's problems to measure; all of them if left out."""
    samples: int = 8
    """Samples per problem."""
    rl_steps: int = 50
    """Steps of online RL; 0 leaves that part out."""
    machine: MachineFlags = field(default_factory=MachineFlags)


def verify_real(model: Model, /, *, args: VerifyRealArguments = VerifyRealArguments()) -> int:
    """Check a published model: logits against transformers, MATH-500 against its table, and steps of online RL."""
    from open_exaone.audit.verify_real import verify_real
    from open_exaone.pipeline.evaluate import Choices, evaluate
    from open_exaone.present.terminal import Progress
    from open_exaone.present.verify_real import terminal_lines

    def measure_suite(source: Path, *, out: Path, machine: Any, on_event: Any, **choices: Any) -> dict[str, Any]:
        _, report = evaluate(str(source), Choices(**choices), out=out, machine=machine, on_event=on_event)
        return report.model_dump(mode="json")

    out = args.out or Path("runs") / "verify-real" / model.name
    console = Console()
    with Progress(console) as progress:
        report = verify_real(
            model,
            out,
            machine=args.machine.machine(),
            rows=args.rows.by_benchmark(),
            num_problems=args.problems,
            num_samples=args.samples,
            num_rl_steps=args.rl_steps,
            on_event=progress,
            measure_suite=measure_suite,
        )
    for line in terminal_lines(report, out):
        console.print(line, soft_wrap=True)
    return 0 if report["passed"] else 1
