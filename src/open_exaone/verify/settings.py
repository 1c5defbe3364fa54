"""The limits of judging."""

from pydantic import Field

from open_exaone.base.config import Config
from open_exaone.remote.settings import Endpoint


class JudgeSettings(Config):
    """The limits of every verdict; none of them depends on the reply."""

    time_limit_s: float = Field(default=5.0, gt=0, le=600)
    """Processor time in seconds for one comparison of formulas, one call of a library's scorer, or one call of your
    own reward. The wall-clock limit is ten times as long, so that a busy machine changes no verdict."""
    memory_bytes: int = Field(default=1 << 30, ge=1 << 28)
    """Memory in bytes that the process of such a call may allocate."""
    program_time_limit_s: float = Field(default=6.0, gt=0, le=600)
    """Processor time in seconds for one test of a generated program (LiveCodeBench: 6). The wall-clock limit is ten
    times as long."""
    program_memory_bytes: int = Field(default=1 << 30, ge=1 << 26)
    """Memory in bytes that a generated program may allocate."""
    unsafe_code_execution: bool = False
    """Run generated programs even where this machine cannot isolate them: they then have all of your own rights."""
    endpoint: Endpoint | None = None
    """The model that checks the answers that the rules call wrong (kind "rule_then_judge")."""
