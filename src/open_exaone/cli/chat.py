"""`exaone chat`: a conversation in the terminal."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from cyclopts import Parameter

from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.records import Problem
from open_exaone.cli.flags import Compute, Model, Repeated, SamplingFlags, read_options


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ChatArguments:
    """The flags of `exaone chat`."""

    thinking: bool = True
    """Begin in reasoning mode."""
    drawing: SamplingFlags = field(default_factory=SamplingFlags)
    engine_option: Repeated = None
    """An option of the engine, such as weights=int8, which rounds the weights to 8 bits; may be repeated."""
    compute: Compute = field(default_factory=Compute)


def chat(model: Model, /, *, args: ChatArguments = ChatArguments()) -> int:
    """Talk to a model in the terminal; with a run's folder, it offers problems that the model solved."""
    from open_exaone.base.records import Sampling
    from open_exaone.checkpoint.folder import load_model, load_tokenizer, resolve_device
    from open_exaone.pipeline.folder import RunFolder, is_run, resolve_model
    from open_exaone.rollout.config import LocalEngine
    from open_exaone.rollout.providers.local import LocalProvider
    from open_exaone.rollout.providers.open import open_engine
    from open_exaone.rollout.run import judge_reply
    from open_exaone.serve.chat import asking, run_chat

    try:
        sampling = Sampling(**{"max_new_tokens": 1, **args.drawing.given()})
    except ValueError as error:
        raise ConfigError(str(error)) from error
    config = validate(LocalEngine, read_options(args.engine_option), "--engine-option")
    folder = resolve_model(model)
    network = load_model(folder, dtype=args.compute.dtype, device=resolve_device(args.compute.device))
    provider = LocalProvider(open_engine(config, network, load_tokenizer(folder)))
    of_run = RunFolder(model).recipe().evaluation if is_run(model) else None
    context = network.config.max_positions
    limit = of_run.reply_limit(context) if of_run else min(4096, context // 2)
    sampling = replace(sampling, max_new_tokens=args.drawing.max_new_tokens or limit)
    run_chat(asking(provider, sampling), judge_reply, _solved_problems(model, folder), thinking=args.thinking)
    return 0


def _solved_problems(source: Path, folder: Path) -> list[Problem]:
    """Problems that the model answered right greedily, one family after the other; none without a run."""
    from open_exaone.pipeline.folder import RunFolder, is_run
    from open_exaone.pipeline.report import greedy_rows

    measured = folder.parent / "eval"
    evaluation = RunFolder(source).recipe().evaluation if is_run(source) else None
    if evaluation is None or not evaluation.names or not (measured / "samples.jsonl").is_file():
        return []
    name = evaluation.names[0]
    solved = {row["problem"] for row in greedy_rows(measured, name) if row["verdict"] == "correct"}
    return [problem for problem in RunFolder(source).problems(name) if problem.id in solved]
