"""`exaone judge`: verdicts on recorded replies."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from open_exaone.base.errors import ConfigError, DataError
from open_exaone.base.output import say
from open_exaone.base.text import count
from open_exaone.cli.flags import Isolation, JudgeLimits


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class JudgeArguments:
    """The flags of `exaone judge`."""

    kind: str = "math"
    """How answers are compared in rows that do not say it themselves."""
    out: Path | None = None
    """The file that gets the verdicts; FILE.verdicts.jsonl if left out."""
    limits: JudgeLimits = field(default_factory=JudgeLimits)
    isolation: Isolation = field(default_factory=Isolation)


def judge(
    file: Annotated[
        Path, Parameter(help="One JSON object a line, with reply, gold, and the other arguments of `ox.judge`.")
    ],
    /,
    *,
    args: JudgeArguments = JudgeArguments(),
) -> int:
    """Judge recorded replies: mathematics, multiple choice, code, instructions and more."""
    from open_exaone.api.judging import judge_rows
    from open_exaone.base.files import read_numbered_jsonl, write_jsonl
    from open_exaone.pipeline.measure import Machine
    from open_exaone.verify.settings import JudgeSettings

    out = args.out or file.with_name(file.name.removesuffix(".jsonl") + ".verdicts.jsonl")
    if out.resolve() == file.resolve():
        raise ConfigError(f"--out {out}: is the file that is judged: choose another")
    settings = Machine(**asdict(args.isolation)).judge(args.limits.read() or JudgeSettings())
    verdicts = judge_rows(read_numbered_jsonl(file), args.kind, settings, str(file))
    if not verdicts:
        raise DataError(f"{file}: holds no reply to judge; write one JSON object a line")
    write_jsonl(out, ({k: v for k, v in asdict(verdict).items() if k != "outage"} for verdict in verdicts))
    for status, number in Counter(verdict.status.value for verdict in verdicts).most_common():
        say(f"{status:10} {number:7,} {number / len(verdicts):7.1%}")
    say(f"{count(len(verdicts), 'verdict')}: {out}")
    return 0
