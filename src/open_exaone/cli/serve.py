"""`exaone serve`: a server that speaks OpenAI's and Anthropic's APIs."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from open_exaone.base.config import did_you_mean, validate
from open_exaone.base.errors import ConfigError
from open_exaone.cli.flags import Compute, Model, Repeated, Switch, read_options

if TYPE_CHECKING:
    from open_exaone.serve.service import Example, Served

_MAX_PORT = 65535
_FLAGS = frozenset(
    {"host", "port", "api_key", "cors_origins", "allowed_hosts", "thinking"}
)  # settings that are no limit


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class ServeArguments:
    """The flags of `exaone serve`."""

    host: str = "127.0.0.1"
    """The address to listen on; only programs on this machine reach the default."""
    port: int = 8000
    """The port to listen on; 0 chooses a free one."""
    name: str | None = None
    """What clients call the model; the folder's name if left out."""
    api_key: str | None = None
    """What clients must send as their key; the environment variable OPEN_EXAONE_API_KEY if left out, which other users
    of this machine cannot read."""
    cors_origin: Repeated = None
    """Web pages of this origin may ask, such as https://chat.example.org; may be repeated."""
    allowed_host: Repeated = None
    """A further name by which this server is reached, such as that of a proxy; may be repeated."""
    thinking: bool = True
    """Think where a request does not say."""
    lora: Repeated = None
    """An adapter in PEFT's format that is served under a name of its own, as NAME=DIR; may be repeated."""
    limit: Repeated = None
    """A limit of the server, as NAME=VALUE, such as deadline_s=60; may be repeated. docs/serving.md lists them."""
    engine_option: Repeated = None
    """An option of the engine, such as weights=int8; may be repeated."""
    quiet: Annotated[Switch, Parameter(negative="")] = False
    """Log warnings alone, not every request."""
    compute: Compute = field(default_factory=Compute)


def serve(model: Model | None = None, /, *, args: ServeArguments = ServeArguments()) -> int:
    """Serve a model to clients of OpenAI's and Anthropic's APIs, and as a web page.

    Without MODEL, the small model that comes with Open-EXAONE is served.
    """
    import logging

    from open_exaone.serve.config import ServeConfig
    from open_exaone.serve.server import key_from_environment, listen
    from open_exaone.serve.server import serve as run_server
    from open_exaone.serve.service import Service

    if not 0 <= args.port <= _MAX_PORT:
        raise ConfigError(f"--port {args.port}: must lie in 0 to {_MAX_PORT}")
    values = {
        **_limits(args.limit, ServeConfig.model_fields),
        "host": args.host,
        "port": args.port,
        "api_key": args.api_key or key_from_environment(),
        "cors_origins": args.cors_origin or [],
        "allowed_hosts": args.allowed_host or [],
        "thinking": args.thinking,
    }
    config = validate(ServeConfig, values, "serve")
    listener = listen(config)  # before the model is loaded: the port may be taken
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("open_exaone").setLevel(logging.WARNING if args.quiet else logging.INFO)
    models = _load(model, args)
    service = Service(models, config)
    names = ", ".join(served.name for served in models)

    def ready(url: str) -> None:
        _announce(f"Serving {names} at {url}/v1, and a page to chat at {url}")

    run_server(service, config, listener, ready)
    return 0


def _limits(given: list[str] | None, fields: Iterable[str]) -> dict[str, Any]:
    """The server's limits, by name.

    Raises:
        ConfigError: one is malformed or unknown.
    """
    limits, known = read_options(given, "--limit"), sorted(set(fields) - _FLAGS)
    for name in limits:
        if name not in known:
            raise ConfigError(f"--limit {name}: unknown key{did_you_mean(name, known)} There are {', '.join(known)}")
    return limits


def _announce(text: str) -> None:
    """Prints where the server answers. It goes on where nobody reads that, or where the disk is full."""
    import logging

    from open_exaone.base.output import say

    try:
        say(text)
        if sys.stdout is not None:  # it is None where the process was started without one
            sys.stdout.flush()  # it may be a pipe or a file
    except OSError as error:
        logging.getLogger("open_exaone.serve").warning("%s (standard output: %s)", text, error.strerror)
        with open(os.devnull, "w") as nowhere:  # else what is left in its buffer fails again at the end
            os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _load(model: Path | None, args: ServeArguments) -> "list[Served]":
    """The model, and one more for each adapter."""
    from open_exaone.checkpoint.folder import load_model, load_tokenizer, resolve_device
    from open_exaone.checkpoint.shipped import shipped_model
    from open_exaone.pipeline.source import is_run, resolve_model
    from open_exaone.rollout.config import LocalEngine
    from open_exaone.rollout.providers.open import open_engine
    from open_exaone.serve.models import detach_from_files, sampling_of, with_adapter
    from open_exaone.serve.service import Served

    config = validate(LocalEngine, read_options(args.engine_option), "--engine-option")
    source = shipped_model() if model is None else model
    folder = resolve_model(source)
    examples = _introduce(folder)
    tokenizer = load_tokenizer(folder)
    network = load_model(folder, dtype=args.compute.dtype, device=resolve_device(args.compute.device))
    detach_from_files(network)
    name = args.name or (source.resolve().name if is_run(source) or source.exists() else str(source))
    defaults: dict[str, Any] = sampling_of(folder)
    networks = {name: network}
    for text in args.lora or []:
        own, equals, place = text.partition("=")
        if not (own and equals and place) or own in networks:
            raise ConfigError(f"--lora {text}: write it as NAME=DIR, each name once")
        networks[own] = with_adapter(network, Path(place))
    return [
        Served(own, open_engine(config, one, tokenizer), defaults, examples if own == name else ())
        for own, one in networks.items()
    ]


def _introduce(folder: Path) -> "tuple[Example, ...]":
    """Logs what the shipped model can do; gives problems that the page suggests. Of any other model, nothing."""
    import logging

    from open_exaone.checkpoint.shipped import introduction, is_shipped, shipped_problems
    from open_exaone.serve.service import Example

    if not is_shipped(folder):
        return ()
    for sentence in introduction("exaone serve"):
        logging.getLogger("open_exaone.serve").info(sentence)
    return tuple(Example(problem.language, problem.question) for problem in shipped_problems())
