"""`exaone chat`: a conversation in the terminal."""

from dataclasses import dataclass, field
from pathlib import Path

from cyclopts import Parameter

from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Problem
from open_exaone.cli.flags import Compute, Model


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ChatArguments:
    """The flags of `exaone chat`."""

    thinking: bool = True
    """Begin in reasoning mode."""
    temperature: float = 0.6
    """Sampling temperature; 0 is greedy decoding."""
    max_new_tokens: int | None = None
    """The longest reply in tokens, its thought included; the limit of the run's evaluation, or 4096, if left out."""
    seed: int = 0
    """The seed of the samples."""
    compute: Compute = field(default_factory=Compute)


def chat(model: Model, /, *, args: ChatArguments = ChatArguments()) -> int:
    """Talk to a model in the terminal; with a run's folder, it offers problems that the model solved."""
    from open_exaone.base.records import Sampling
    from open_exaone.checkpoint.folder import load_model, load_tokenizer, resolve_device
    from open_exaone.engine.engine import Engine
    from open_exaone.pipeline.folder import RunFolder, is_run, resolve_model
    from open_exaone.rollout.providers.local import LocalProvider
    from open_exaone.rollout.run import judge_reply
    from open_exaone.serve.chat import asking, run_chat

    if not 0 <= args.temperature <= 100:
        raise ConfigError(f"--temperature {args.temperature}: must lie in 0 (greedy) to 100")
    if args.max_new_tokens is not None and args.max_new_tokens < 1:
        raise ConfigError(f"--max-new-tokens {args.max_new_tokens}: must be at least 1")
    folder = resolve_model(model)
    network = load_model(folder, dtype=args.compute.dtype, device=resolve_device(args.compute.device))
    provider = LocalProvider(Engine(network, load_tokenizer(folder)))
    of_run = RunFolder(model).recipe().evaluation if is_run(model) else None
    context = network.config.max_positions
    limit = of_run.reply_limit(context) if of_run else min(4096, context // 2)
    sampling = Sampling(max_new_tokens=args.max_new_tokens or limit, temperature=args.temperature, seed=args.seed)
    run_chat(asking(provider, sampling), judge_reply, _solved_problems(model, folder), thinking=args.thinking)
    return 0


def _solved_problems(source: Path, folder: Path) -> list[Problem]:
    """Test problems that the model answered right greedily, one task after the other; none without a run."""
    from open_exaone.pipeline.folder import RunFolder, is_run
    from open_exaone.pipeline.report import greedy_rows

    measured = folder.parent / "eval"
    evaluation = RunFolder(source).recipe().evaluation if is_run(source) else None
    if evaluation is None or evaluation.data is None or not (measured / "samples.jsonl").is_file():
        return []
    solved = {row["problem"] for row in greedy_rows(measured) if row["verdict"] == "correct"}
    return [problem for problem in RunFolder(source).problems(evaluation.data) if problem.id in solved]
