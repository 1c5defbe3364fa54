"""A language model behind an endpoint that judges: where it is, and what one question may cost."""

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
