"""`exaone chat`: a conversation in the terminal, or one answer through a pipe."""

import sys
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from open_exaone.base.config import validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.output import say_aside, say_error
from open_exaone.cli.flags import Compute, Repeated, SamplingFlags, read_options

if TYPE_CHECKING:
    from open_exaone.base.records import Problem, Sampling
    from open_exaone.serve.session import Model, Session

Talker = Annotated[
    str,
    Parameter(
        help="A run's folder, which stands for its last finished model; a model's folder; owner/name[@revision] on the "
        "Hugging Face hub; or an endpoint's address up to /v1. If left out, the small model that comes with "
        "Open-EXAONE."
    ),
]
_DEFAULT_LIMIT = 4096
_SILENCE_S = 600.0  # of an endpoint
_TOKENS_AT_ONCE = 4  # so that a reply flows, and Ctrl-C stops it soon
_DRAWN = ("top_p", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty", "seed")


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ChatSampling(SamplingFlags):
    """How `exaone chat` samples replies."""

    max_new_tokens: int | None = None
    """The longest reply in tokens, its thought included; a run's own limit if left out, else 4096 or half of the
    context, whichever is less; an endpoint's own limit."""
    temperature: float | None = None
    """Sampling temperature; 0 is greedy decoding; 0.6 if left out."""
    top_p: float | None = None
    """Nucleus sampling: keep the most likely tokens up to this total probability; 0.95 if left out, or an
    endpoint's own."""
    seed: int | None = None
    """The seed of the samples; 0 if left out, or an endpoint's own."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ChatArguments:
    """The flags of `exaone chat`."""

    thinking: bool = True
    """Begin in reasoning mode."""
    budget: int | None = None
    """The longest thought, in tokens; then its end is forced and the answer follows."""
    system: str = ""
    """Instructions in front of the conversation."""
    thoughts: Literal["show", "hide"] | None = None
    """Whether thoughts are shown; if left out they are in a terminal. Through a pipe, show sends them to standard
    error."""
    history: Annotated[bool, Parameter(negative="--no-history")] = True
    """Keep what is typed for the next chat, in a file that only you can read."""
    engine: str = "local"
    """local, or the address of an OpenAI-compatible endpoint, with the model's name there as MODEL."""
    drawing: ChatSampling = field(default_factory=ChatSampling)
    engine_option: Repeated = None
    """An option of the engine, such as weights=int8, which rounds the weights to 8 bits; may be repeated."""
    compute: Compute = field(default_factory=Compute)


def chat(model: Talker | None = None, /, *, args: ChatArguments = ChatArguments()) -> int:
    """Talk to a model in the terminal; with a run's folder or without MODEL, it offers problems that the model solved.

    Where standard input or output is no terminal, all of the input is one message, and the answer alone is printed.
    """
    from open_exaone.pipeline.source import is_address
    from open_exaone.serve.session import Session, Settings

    if args.budget is not None and args.budget < 1:
        raise ConfigError(f"--budget {args.budget}: must be at least 1; leave it out for thoughts of any length")
    is_quiet = not (sys.stdin.isatty() and sys.stdout.isatty())
    if model is None and is_address(args.engine):
        model = args.engine
    if model is not None and (is_address(model) or is_address(args.engine)):
        talker, problems = _endpoint(model, args), list["Problem"]()
    elif args.engine != "local":
        raise ConfigError(f"--engine {args.engine}: must be local or an address, such as http://localhost:8000/v1")
    else:
        talker, problems = _local(model, args, with_problems=not is_quiet)
    with closing(talker):
        session = Session(talker, Settings(args.thinking, args.budget, args.system))
        return _once(session, args) if is_quiet else _talk(session, problems, args)


def _once(session: "Session", args: ChatArguments) -> int:
    from open_exaone.serve.terminal import answer_once

    text = sys.stdin.read().strip()
    if not text:
        raise ConfigError("the input is empty: pipe a message in, or start it in a terminal")
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        say_error("the input is not UTF-8 text")
        return 1
    return answer_once(session, text, shows_thoughts=args.thoughts == "show")


def _talk(session: "Session", problems: "list[Problem]", args: ChatArguments) -> int:
    from open_exaone.base.terminal import Console
    from open_exaone.rollout.run import judge_reply
    from open_exaone.serve.terminal import Chat
    from open_exaone.serve.terminal_input import history_file, line_editing, typed
    from open_exaone.serve.terminal_view import View

    view = View(Console(), shows_thoughts=args.thoughts != "hide")
    with line_editing(history_file() if args.history else None):
        Chat(session, view, judge_reply, problems).run(buffer=typed)
    return 0


def _sampling(args: ChatArguments, limit: int) -> "Sampling":
    from open_exaone.base.records import Sampling

    try:
        return Sampling(**{"max_new_tokens": limit, **args.drawing.given()})
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _endpoint(model: str, args: ChatArguments) -> "Model":
    """The model behind an address.

    Raises:
        ConfigError: a flag is for the local engine, or the endpoint has several models.
        EndpointError: it cannot be reached.
    """
    from open_exaone.pipeline.source import is_address
    from open_exaone.remote.http import Limits
    from open_exaone.rollout.config import ChatEndpoint
    from open_exaone.rollout.providers.server import MAX_RESPONSE_BYTES, ServerProvider, find_model
    from open_exaone.serve.session_endpoint import EndpointModel

    url, name = (model, None) if is_address(model) else (args.engine, model)
    if args.engine_option:
        raise ConfigError("--engine-option is for the local engine, not for an endpoint")
    sampling = _sampling(args, args.drawing.max_new_tokens or _DEFAULT_LIMIT)
    given = args.drawing.given()
    fields: dict[str, Any] = {"temperature": sampling.temperature}
    fields |= {name: given[name] for name in _DRAWN if name in given}
    fields |= {"max_tokens": given["max_new_tokens"]} if "max_new_tokens" in given else {}
    fields |= {"stop": list(sampling.stop)} if sampling.stop else {}
    fields |= {"stop_token_ids": list(sampling.stop_ids)} if sampling.stop_ids else {}
    fields |= {"logit_bias": dict(sampling.logit_bias)} if sampling.logit_bias else {}
    provider = ServerProvider(ChatEndpoint(url=url, timeout_s=_SILENCE_S, max_attempts=2))
    if len(provider.servers) > 1:
        raise ConfigError(f"{url}: chat talks to one endpoint: give one address")
    found, _ = find_model(provider.server, provider.limits, name)
    return EndpointModel(provider.server, found, fields, Limits(_SILENCE_S, 1, MAX_RESPONSE_BYTES))


def _local(model: str | None, args: ChatArguments, *, with_problems: bool) -> "tuple[Model, list[Problem]]":
    """The model of a folder, or the shipped one, with its engine, and problems that it solved."""
    from open_exaone.checkpoint.folder import load_model, load_tokenizer, resolve_device
    from open_exaone.checkpoint.shipped import introduction, is_shipped, shipped_model
    from open_exaone.pipeline.folder import RunFolder
    from open_exaone.pipeline.source import is_run, resolve_model
    from open_exaone.rollout.config import LocalEngine
    from open_exaone.rollout.providers.open import open_engine
    from open_exaone.serve.session_local import LocalModel

    sampling = _sampling(args, 1)
    config = validate(LocalEngine, read_options(args.engine_option), "--engine-option")
    if args.drawing.stop:
        raise ConfigError(
            "--stop: the chat shows a reply as it comes; stop strings are for exaone eval, or an endpoint"
        )
    source = shipped_model() if model is None else Path(model)
    folder = resolve_model(source)
    if is_shipped(folder):
        for sentence in introduction("exaone chat")[: None if with_problems else 2]:  # no list through a pipe
            say_aside(sentence)
    network = load_model(folder, dtype=args.compute.dtype, device=resolve_device(args.compute.device))
    engine = open_engine(config, network, load_tokenizer(folder), num_steps=_TOKENS_AT_ONCE)
    of_run = RunFolder(source).recipe().evaluation if is_run(source) else None
    context = network.config.max_positions
    limit = of_run.reply_limit(context) if of_run else min(_DEFAULT_LIMIT, context // 2)
    sampling = replace(sampling, max_new_tokens=args.drawing.max_new_tokens or limit)
    name = folder.name if is_shipped(folder) else str(source)
    return LocalModel(name, engine, sampling), solved_problems(source, folder) if with_problems else []


def solved_problems(source: Path, folder: Path) -> "list[Problem]":
    """Problems that the model answered right greedily, one family after the other; none but of a run or shipped."""
    from open_exaone.checkpoint.shipped import is_shipped, shipped_problems
    from open_exaone.pipeline.folder import RunFolder
    from open_exaone.pipeline.report import greedy_rows
    from open_exaone.pipeline.source import is_run

    if is_shipped(folder):
        return shipped_problems()
    measured = folder.parent / "eval"
    evaluation = RunFolder(source).recipe().evaluation if is_run(source) else None
    if evaluation is None or not evaluation.names or not (measured / "samples.jsonl").is_file():
        return []
    name = evaluation.names[0]
    solved = {row["problem"] for row in greedy_rows(measured, name) if row["verdict"] == "correct"}
    return [problem for problem in RunFolder(source).problems(name) if problem.id in solved]
