"""What judging may cost, and what it may do."""

from pydantic import Field

from open_exaone.base.config import Config

# Of an endpoint, between two sittings of one run: where its model is, not which; and the same for pydantic's `exclude`.
ENDPOINT_MAY_CHANGE = ("base_url", "api_key_variable", "timeout_s", "max_attempts", "max_wait_s")
WITHOUT_ADDRESS = {"endpoint": set(ENDPOINT_MAY_CHANGE)}


class Endpoint(Config):
    """A language model behind an OpenAI-compatible endpoint, asked only where rules say wrong."""

    base_url: str = Field(pattern=r"^https?://[^\s/]+")
    """Such as "http://localhost:8000/v1"."""
    model: str
    """The model's name there."""
    api_key_variable: str | None = None
    """The environment variable that holds the key; the key itself is never written down."""
    timeout_s: float = Field(default=60.0, gt=0, le=3600)
    """The longest that one question may take, its retries included."""
    max_attempts: int = Field(default=3, gt=0, le=10)
    """How often one question is asked before the verdict is an error."""
    max_wait_s: float = Field(default=86_400.0, ge=0, le=30 * 86_400)
    """How long training waits for one outage of the endpoint before it stops; the same command resumes."""


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
