"""What generates: the local engine, vLLM, a vLLM server, or any OpenAI-compatible endpoint. No torch here."""

from typing import Annotated, Any, Literal

from pydantic import Field

from open_exaone.base.config import Config


class LocalEngine(Config):
    """The engine of this package, in this process."""

    kind: Literal["local"] = "local"
    num_slots: int | None = Field(default=None, ge=1)
    """The most samples that decode together; what memory holds, at most 128, if left out."""


class VllmEngine(Config):
    """vLLM in this process."""

    kind: Literal["vllm"]
    options: dict[str, Any] = Field(default_factory=dict)
    """vLLM's own engine arguments, such as { tensor_parallel_size = 2 }."""


class _Server(Config):
    """What every server needs."""

    url: str
    """The address up to /v1, such as "http://localhost:8000/v1"."""
    model: str | None = None
    """The model's name there; the only one that the server has, if left out."""
    api_key_variable: str | None = None
    """The environment variable that holds the key; OPENAI_API_KEY, where that is set, if left out."""
    concurrency: int = Field(default=32, ge=1, le=1024)
    """Requests in flight."""
    timeout_s: float = Field(default=3600.0, gt=0, le=604_800)
    """The longest that one reply may take, its retries included."""
    max_attempts: int = Field(default=8, ge=1, le=100)
    """How often one request is tried before it is left out."""
    num_parameters: int | None = Field(default=None, ge=1)
    """Of the model, to count FLOPs."""


class VllmServer(_Server):
    """A vLLM server that takes prompts as token ids, and gives token ids and log-probabilities."""

    kind: Literal["vllm_server"]
    concurrency: int = Field(default=256, ge=1, le=4096)
    """Requests in flight; the server batches them."""
    weights_folder: str | None = None
    """A folder that this process and the server both see: online RL hands each step's weights over in it."""


class ChatEndpoint(_Server):
    """Any OpenAI-compatible chat endpoint; it gives only text, so that online RL cannot use it."""

    kind: Literal["endpoint"] = "endpoint"
    thought_tag: str = Field(default="think", pattern=r"^[a-z]{1,20}$")
    """The tag of the model's thoughts; EXAONE Deep's is "thought". It matters only under a thinking budget."""


EngineConfig = Annotated[LocalEngine | VllmEngine | VllmServer | ChatEndpoint, Field(discriminator="kind")]
