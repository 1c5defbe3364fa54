"""Opens what an `EngineConfig` names."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from open_exaone.base.errors import ConfigError
from open_exaone.rollout.config import ChatEndpoint, EngineConfig, LocalEngine, VllmEngine, VllmServer
from open_exaone.rollout.provider import Provider

if TYPE_CHECKING:
    from open_exaone.engine.engine import Engine
    from open_exaone.model.transformer import LanguageModel
    from open_exaone.rollout.team import Team
    from open_exaone.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class Policy:
    """The model that a provider samples from."""

    name: str  # what the report calls it
    tokenizer: "Tokenizer | None" = None  # every engine but a chat endpoint needs it
    model: "LanguageModel | None" = None  # loaded; the local engine needs it
    folder: Path | None = None  # its files; vLLM in process needs it
    weights: str | None = None  # `local.weights_hash` of them; None for a policy that is trained
    num_parameters: int | None = None  # to count FLOPs
    is_copy: bool = False  # `model` is a copy of a policy that is trained, whose weights it is given
    team: "Team | None" = None  # the ranks that each have this model, and share out an evaluation's samples


def open_provider(config: EngineConfig, policy: Policy) -> Provider:
    """The provider; what the policy lacks for it is refused.

    Raises:
        ConfigError: the engine cannot be opened, or has no such model.
        EndpointError: a server does not answer.
    """
    if isinstance(config, ChatEndpoint):
        from open_exaone.rollout.providers.endpoint import EndpointProvider

        return EndpointProvider(config)
    if policy.tokenizer is None:
        raise ConfigError(
            f"{policy.name}: engine {config.kind!r} renders prompts itself: name a model with a tokenizer"
        )
    if isinstance(config, VllmServer):
        from open_exaone.rollout.providers.vllm_server import VllmServerProvider

        return VllmServerProvider(config, policy.tokenizer, weights=policy.weights)
    if isinstance(config, VllmEngine):
        from open_exaone.rollout.providers.vllm import VllmProvider

        assert policy.folder is not None
        return VllmProvider(
            policy.folder,
            policy.tokenizer,
            weights=policy.weights,
            num_parameters=policy.num_parameters,
            options=config.options,
        )
    from open_exaone.rollout.providers.local import LocalProvider

    assert isinstance(config, LocalEngine) and policy.model is not None
    assert config.weights is None or policy.weights is not None  # `pipeline.start` refuses it where a policy is trained
    engine = open_engine(config, policy.model, policy.tokenizer)
    return LocalProvider(engine, model=policy.name, weights=policy.weights, is_copy=policy.is_copy, team=policy.team)


def open_engine(
    config: LocalEngine, model: "LanguageModel", tokenizer: "Tokenizer", *, num_steps: int | None = None
) -> "Engine":
    """The engine of this package.

    Args:
        num_steps: see `Engine`.

    Raises:
        ConfigError: it cannot compute this model so.
        CheckpointError: see `Engine`.
    """
    from open_exaone.engine.engine import Engine

    try:
        return Engine(
            model,
            tokenizer,
            num_slots=config.num_slots,
            int8=config.weights == "int8",
            backend=config.backend,
            num_steps=num_steps,
        )
    except ValueError as error:
        chosen = {name: getattr(config, name) for name in ("weights", "backend")}
        asked = ", ".join(f"{name} = {value!r}" for name, value in chosen.items() if value is not None)
        raise ConfigError(f"engine: {asked}: {error}") from error
