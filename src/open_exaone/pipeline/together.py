"""A run on several ranks: they join, share one folder, and the first one writes it."""

import logging
import math
import os
import secrets
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from open_exaone.base import interrupt
from open_exaone.base.errors import ConfigError, OpenExaoneError, RankError, RunFolderError
from open_exaone.base.files import write_text
from open_exaone.base.log import logger
from open_exaone.base.output import memory_error
from open_exaone.model.mesh import check_tensor
from open_exaone.model.registry import shape_by_name
from open_exaone.rollout.config import LocalEngine, VllmEngine
from open_exaone.train.config import RlStage
from open_exaone.train.parallel.config import ParallelConfig
from open_exaone.train.parallel.place import Place, own_place
from open_exaone.train.parallel.world import ALONE, World

if TYPE_CHECKING:
    from open_exaone.model.config import ModelConfig
    from open_exaone.pipeline.config import Recipe

FOLDER_S = 30.0  # how long a file of rank 0 may take to be seen by the others
TOKEN_FILE = ".ranks"
LAUNCHER = "OPEN_EXAONE_LAUNCHER"  # in a rank's environment: a pipe that closes where the launcher ends


@contextmanager
def joined(recipe: "Recipe", device: str) -> Iterator[World]:
    """The ranks of this run, as the environment names them; this process alone where it names none.

    Raises:
        ConfigError: the ranks run different things, or the recipe cannot be shared among so many.
        RankError: they cannot be reached in time, or, within it, this rank ran out of memory.
    """
    place = own_place()
    _check(recipe, 1 if place is None else place.size)
    with _joined(place, recipe.parallel, {"recipe": recipe.config_hash}, device) as world:
        yield world


@contextmanager
def joined_to_sample(device: str) -> Iterator[World]:
    """The ranks of a command that samples, as `joined`. Within it Ctrl-C and SIGTERM are deferred, as in a run.

    Raises:
        ConfigError, RankError: as `joined`.
    """
    place = own_place()
    hello = {"command": shlex.join(sys.argv[1:])}
    with _joined(place, ParallelConfig(), hello, device) as world, interrupt.deferred_interrupts():
        yield world


@contextmanager
def _joined(place: Place | None, parallel: ParallelConfig, hello: Mapping[str, str], device: str) -> Iterator[World]:
    """Args:
    hello: what must be the same on all ranks, besides the version.
    """
    if place is None:
        yield ALONE
        return
    from open_exaone.checkpoint.folder import resolve_device
    from open_exaone.train.parallel.join import join

    _end_with_launcher()
    if not place.rank:
        _warn_of_machines(parallel.tensor)
    else:
        logger.setLevel(logging.ERROR)  # what rank 0 reports, all would
    version = metadata.version("open-exaone")
    world = join(place, parallel, {"open-exaone": version, **hello}, resolve_device(device))
    with _memory_errors_named(world):
        yield world
    world.close()  # behind an error the others may not come


@contextmanager
def _memory_errors_named(world: World) -> Iterator[None]:
    """Within it, a rank that runs out of memory reports which it is and what to change, and ends; so the others end."""
    try:
        yield
    except Exception as error:
        cause = error.__cause__ if isinstance(error, OpenExaoneError) else error
        if cause is None or memory_error(cause) is None:
            raise
        detail = " ".join(str(cause).split())[:200]
        raise RankError(
            f"rank {world.rank} ran out of memory{f' ({detail})' if detail else ''}: lower micro_batch_tokens, set "
            "recompute_activations = true, or raise parallel.shard, so that each rank keeps a smaller part of the "
            "model; then run the same command again, which resumes from the last saved state"
        ) from error


def _end_with_launcher() -> None:
    """Has this process end, its state saved, where the one that started it has ended."""
    if (pipe := os.environ.get(LAUNCHER)) is None:
        return

    def watch() -> None:
        os.read(int(pipe), 1)  # nothing is ever written there
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="launcher", daemon=True).start()


def _check(recipe: "Recipe", size: int) -> None:
    parallel, started = recipe.parallel, "one process" if size == 1 else f"{size} ranks"
    sizes = {axis: getattr(parallel, axis) for axis in ("shard", "tensor", "context")}
    split = {axis: number for axis, number in sizes.items() if number > 1} or {"shard": 1}
    number, named = math.prod(split.values()), " x ".join(f"parallel.{axis} = {n}" for axis, n in split.items())
    if size % number:
        raise ConfigError(
            f"{named}: does not divide the number of ranks, and the run has {started}: start it with --ranks {number} "
            f"or a multiple of it, or set {' and '.join(f'parallel.{axis} = 1' for axis in split)}"
        )
    if parallel.data is not None and parallel.data * number != size:
        raise ConfigError(
            f"parallel.data = {parallel.data} x {named}: needs {parallel.data * number} ranks, and the run has "
            f"{started}: start it with --ranks {parallel.data * number}, or leave parallel.data out"
        )
    if parallel.tensor > 1 and (shape := _known_shape(recipe)) is not None:
        check_tensor(parallel.tensor, shape)
    rl = [stage for stage in recipe.stages if isinstance(stage, RlStage)]
    if number > 1 and rl and not isinstance(recipe.engine, LocalEngine):
        raise ConfigError(
            f"{named}: {rl[0].name} samples with engine.kind = {recipe.engine.kind!r}, which gets its weights from one "
            f"rank that has the whole model: set engine.kind = 'local', or "
            f"{' and '.join(f'{axis} = 1' for axis in split)}"
        )
    for stage in recipe.trained:
        if number > 1 and stage.optimizer.gradient_dtype != "float32":
            raise ConfigError(
                f"{stage.name}.optimizer.gradient_dtype = {stage.optimizer.gradient_dtype!r}: with "
                f"{named} each rank keeps its part of the gradients in float32: leave it out"
            )
    if size > 1 and isinstance(recipe.engine, VllmEngine):
        raise ConfigError(
            "engine.kind = 'vllm': several ranks cannot share one vLLM that runs inside a process: set engine.kind = "
            "'local' or 'vllm_server'"
        )


def _known_shape(recipe: "Recipe") -> "ModelConfig | None":
    """The shape of the recipe's model; None where that is known only once it is downloaded or found in a run."""
    name = str(recipe.model)
    if recipe.shape is not None:
        return recipe.shape
    if (Path(name) / "config.json").is_file():
        from open_exaone.checkpoint.folder import load_config

        return load_config(Path(name))
    return shape_by_name(name.partition("@")[0])


def _warn_of_machines(tensor: int, environment: Mapping[str, str] = os.environ) -> None:
    """Warns of tensor parallelism between machines, as LOCAL_WORLD_SIZE tells how many ranks each has."""
    text = environment.get("LOCAL_WORLD_SIZE", "")
    if tensor > 1 and text.isdecimal() and int(text) and int(text) % tensor:
        logger.warning(
            "parallel.tensor = %d: does not divide the %s ranks of this machine, so ranks on several machines exchange "
            "each layer's activations over the network, which is slow: choose a size that divides them, and use "
            "parallel.shard across machines",
            *(tensor, text),
        )


def check_shared(world: World, folder: Path) -> None:
    """Finds a folder that the ranks do not share.

    Raises:
        RunFolderError, RankError: a rank does not see what rank 0 writes there; names the machine and the folder.
    """
    if world.size == 1:
        return
    path = folder / TOKEN_FILE

    def write() -> str:
        token = secrets.token_hex(16)
        write_text(path, token)
        return token

    token = world.lead(write)

    def see() -> None:
        deadline = time.monotonic() + FOLDER_S
        while not _holds(path, token):
            if time.monotonic() > deadline:
                raise RunFolderError(
                    f"{folder} on {socket.gethostname()} is not the folder that rank 0 uses: the file {path.name}, "
                    f"which rank 0 wrote, is not there: give all ranks one shared folder with --out"
                )
            time.sleep(0.05)

    world.gather(see)
    world.lead(lambda: path.unlink(missing_ok=True))


def _holds(path: Path, token: str) -> bool:
    try:
        return path.read_text(encoding="ascii") == token
    except (OSError, UnicodeDecodeError):
        return False
