"""Whether a recipe's stages can sample with its engine. No torch here."""

from collections.abc import Sequence

from open_exaone.rollout.config import ChatEndpoint, EngineConfig, LocalEngine, VllmServer
from open_exaone.train.config import AnyStage, RlStage


def check_engine(engine: EngineConfig, stages: Sequence[AnyStage]) -> None:
    """Raises:
    ValueError: a stage cannot sample with the engine.
    """
    if isinstance(engine, ChatEndpoint):
        raise ValueError(
            "engine.kind = 'endpoint': a chat endpoint cannot sample from the model that is trained: choose local, "
            "vllm or vllm_server"
        )
    for stage in stages:
        if isinstance(stage, RlStage) and stage.max_staleness and not isinstance(engine, VllmServer):
            raise ValueError(
                f"{stage.name}.max_staleness = {stage.max_staleness}: samples are drawn while the model is trained, by "
                "a server with weights of its own: set engine.kind = 'vllm_server', or leave it out"
            )
    if not isinstance(engine, LocalEngine):
        for stage in stages:
            if isinstance(stage, RlStage) and stage.temperature != 1:
                raise ValueError(
                    f"{stage.name}.temperature = {stage.temperature:g}: vLLM reports log-probabilities at temperature "
                    "1, and RL needs those at which tokens are drawn: leave it out, or choose the local engine"
                )
