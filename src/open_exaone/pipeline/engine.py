"""What samples from a stage's model: the recipe's engine, given the weights that it is to sample from."""

from pathlib import Path

from open_exaone.checkpoint.folder import load_model, resolve_device
from open_exaone.model.lora import plain_weights
from open_exaone.model.transformer import LanguageModel
from open_exaone.pipeline.start import Run
from open_exaone.rollout.config import LocalEngine, VllmEngine
from open_exaone.rollout.provider import Provider
from open_exaone.rollout.providers.local import weights_hash
from open_exaone.rollout.providers.open import Policy, open_provider
from open_exaone.rollout.providers.vllm import VllmProvider
from open_exaone.train.config import AnyStage


def open_policy(run: Run, stage: AnyStage, model: LanguageModel) -> Provider:
    """Samples from a model that is trained: whoever trains it hands its weights over before each sampling.

    Of a sharded model, each rank's engine has a whole copy.
    """
    if model.sharing is None:
        return _open(run, stage.name, model, run.start_folder(stage), None)
    copy = LanguageModel(model.config).to(model.device, model.dtype).eval().requires_grad_(False)
    return _open(run, stage.name, copy, run.start_folder(stage), None, is_copy=True)


def open_fixed(run: Run, name: str, model: LanguageModel, folder: Path | None, weights: str) -> Provider:
    """Samples from a model as it is now; with the local engine, ranks share its samples out.

    Args:
        folder: where its files are, or those of a model with the same layers; None where there are none.
        weights: distinguishes its weights from any others.
    """
    provider = _open(run, name, model, folder, weights)
    if not isinstance(run.recipe.engine, LocalEngine):
        provider.update_weights(plain_weights(model), 0)
    return provider


def load_fixed(run: Run, name: str, folder: Path) -> Provider:
    """Samples from the model of a folder."""
    model = load_model(folder, dtype=run.machine.dtype, device=resolve_device(run.machine.device))
    return open_fixed(run, name, model, folder, weights_hash(folder))


def _open(
    run: Run, name: str, model: LanguageModel, folder: Path | None, weights: str | None, *, is_copy: bool = False
) -> Provider:
    team = (
        run.world if run.world.size > 1 and weights is not None else None
    )  # a policy's samples, its trainer shares out
    policy = Policy(name, run.tokenizer, model, folder, weights, run.shape.num_parameters, is_copy, team)
    if not isinstance(run.recipe.engine, VllmEngine):
        return open_provider(run.recipe.engine, policy)
    if not run.engines:  # it takes minutes to start, and keeps the GPU's memory
        run.engines.append(open_provider(run.recipe.engine, policy))
    [vllm] = run.engines
    assert isinstance(vllm, VllmProvider) and folder is not None
    return vllm.of(folder, weights)
