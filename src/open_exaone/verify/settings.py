"""What judging may cost, and what it may do."""

from pydantic import Field

from open_exaone.base.config import Config
from open_exaone.remote.settings import Endpoint


class JudgeSettings(Config):
    """The limits of every verdict; none of them depends on what the reply says."""

    time_limit_s: float = Field(default=5.0, gt=0, le=600)
    """Seconds of processor time that one comparison of formulas, one scorer of a library, or one call of a reward of
    your own may take; by the clock ten times as long, so that a busy machine changes no verdict."""
    memory_bytes: int = Field(default=1 << 30, ge=1 << 28)
    """The most that its process may allocate."""
    program_time_limit_s: float = Field(default=6.0, gt=0, le=600)
    """Seconds of processor time that a generated program may take for one test (LiveCodeBench: 6); by the clock ten
    times as long."""
    program_memory_bytes: int = Field(default=1 << 30, ge=1 << 26)
    """The most that a generated program may allocate."""
    unsafe_code_execution: bool = False
    """Run generated programs even where this machine cannot isolate them: they may then do whatever you may."""
    endpoint: Endpoint | None = None
    """The model that looks again at answers that the rules say are wrong ("rule_then_judge")."""
