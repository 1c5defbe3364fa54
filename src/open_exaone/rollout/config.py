"""What generates, and how it is sampled from: the tables of recipes and suites. No torch here."""

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from open_exaone.base.config import Config
from open_exaone.base.records import Sampling

# Of an engine, between two sittings of one run: where its servers are and how they are asked, not what they sample.
ENGINE_MAY_CHANGE = (
    *("num_slots", "url", "concurrency", "timeout_s", "max_attempts", "api_key_variable"),
    *("weights_folder", "weights_address"),
)


class SamplingConfig(Config):
    """How tokens are drawn and where replies end, besides what each table has its own default for."""

    top_k: int | None = Field(default=None, ge=1)
    """Sample from this many most likely tokens; from all if left out."""
    min_p: float = Field(default=0.0, ge=0, le=1)
    """Sample from tokens that are at least this many times as likely as the most likely one."""
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Subtracted from the logits of every token that is already in the reply."""
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    """Subtracted from a token's logit once for each time that the reply already has it."""
    repetition_penalty: float = Field(default=1.0, ge=0.01, le=100)
    """Above 1, makes every token that is already in prompt or reply less likely."""
    logit_bias: dict[Annotated[int, Field(ge=0)], Annotated[float, Field(ge=-100, le=100)]] = Field(default={})
    """Added to the logits of these token ids, such as { 42 = -100.0 }."""
    stop_ids: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Further token ids that end a reply."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Strings that end a reply; its text is what stands before the first of them."""

    def to_sampling(self, **others: Any) -> Sampling:
        """All that the table has of a `Sampling`, and the rest."""
        own = {field.name: getattr(self, field.name) for field in fields(Sampling) if hasattr(self, field.name)}
        return Sampling(**{**own, **others})


class LocalEngine(Config):
    """The engine of this package, in this process."""

    kind: Literal["local"] = "local"
    num_slots: int | None = Field(default=None, ge=1)
    """The maximum number of samples that decode together, 256 if left out. It is lower if memory cannot hold their keys
    and values."""
    weights: Literal["int8"] | None = None
    """"int8" rounds the matrices to 8 bits, for evaluation and chat. If left out, the model is not quantised."""
    backend: Literal["native", "graphs", "plain"] | None = None
    """Native code, CUDA graphs or plain PyTorch. If left out, it is chosen by the device and the model."""


class VllmEngine(Config):
    """vLLM in this process."""

    kind: Literal["vllm"]
    options: dict[str, Any] = Field(default_factory=dict)
    """vLLM's own engine arguments, such as { tensor_parallel_size = 2 }."""


class _Server(Config):
    """What every server needs."""

    url: str | tuple[str, ...]
    """The address up to /v1, such as "http://localhost:8000/v1". For several servers of the same model, a list, or
    addresses joined by commas: requests are distributed over them."""
    model: str | None = None
    """The name of the model on the server. If left out, the server must have a single model."""
    api_key_variable: str | None = None
    """The environment variable that holds the API key. If left out, OPENAI_API_KEY is used if it is set."""
    concurrency: int = Field(default=32, ge=1, le=1024)
    """Requests in flight at each server."""
    timeout_s: float = Field(default=3600.0, gt=0, le=604_800)
    """The maximum number of seconds that one reply may take, including retries."""
    max_attempts: int = Field(default=8, ge=1, le=100)
    """How often a request is tried before it is given up."""
    num_parameters: int | None = Field(default=None, ge=1)
    """The number of parameters of the model, to count FLOPs."""

    @property
    def urls(self) -> tuple[str, ...]:
        """The address of each server."""
        return (self.url,) if isinstance(self.url, str) else self.url

    @field_validator("url")
    @classmethod
    def _each_once(cls, url: str | tuple[str, ...]) -> str | tuple[str, ...]:
        urls = [part.strip() for part in url.split(",")] if isinstance(url, str) else list(url)
        if not urls or not all(urls):
            raise ValueError('an address is empty: name each server, such as ["http://a:8000/v1", "http://b:8000/v1"]')
        if twice := [one for one in urls if urls.count(one) > 1]:
            raise ValueError(f"{twice[0]} is named twice: name each server once")
        return urls[0] if len(urls) == 1 else tuple(urls)


class VllmServer(_Server):
    """A vLLM server that accepts prompts as token ids and returns token ids and log-probabilities."""

    kind: Literal["vllm_server"]
    concurrency: int = Field(default=256, ge=1, le=4096)
    """Requests in flight at each server, which batches them."""
    weights: Literal["folder", "nccl"] = "folder"
    """How a server gets the weights of each step: "folder" through files in `weights_folder`, "nccl" from GPU to GPU by
    vLLM's weight transfer."""
    weights_folder: str | None = None
    """With weights = "folder": a folder that this process and all servers see, through which they get the weights of
    each step."""
    weights_address: str | None = None
    """With weights = "nccl": the address by which the servers reach this machine, which opens a port on it for each
    server. If left out, it is the address by which this machine reaches the server."""


class ChatEndpoint(_Server):
    """Any OpenAI-compatible chat endpoint; it gives only text, so that online RL cannot use it."""

    kind: Literal["endpoint"] = "endpoint"
    thought_tag: str = Field(default="think", pattern=r"^[a-z]{1,20}$")
    """The tag of the model's thoughts; EXAONE Deep's is "thought". It matters only under a thinking budget."""


EngineConfig = Annotated[LocalEngine | VllmEngine | VllmServer | ChatEndpoint, Field(discriminator="kind")]
