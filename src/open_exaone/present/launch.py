"""Launch files of a planned run: Slurm, SkyPilot and Kubernetes, filled in with the plan's mesh."""

import json
import re
import shlex
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

from open_exaone.base.errors import ConfigError
from open_exaone.model.mesh import Mesh
from open_exaone.model.speed import Sampler
from open_exaone.present.page_parts import TEMPLATES

MARGIN = 1.5  # of the planned time; evaluation, loading and saving are left out of the plan
START_S = 3600  # for what a run does besides
UNKNOWN_S = 24 * 3600  # where the plan does not know the time
MOST_S = 365 * 86_400
ACCELERATORS = {  # what SkyPilot calls a GPU of model/gpus.py: `sky show-gpus`
    "a100-80": "A100-80GB",
    "b200": "B200",
    "h100": "H100",
    "h100-pcie": "H100",
    "h200": "H200",
    "l40s": "L40S",
    "mi300x": "MI300X",
    "rtx-4090": "RTX4090",
}


class Kind(NamedTuple):
    """A scheduler that a file can be written for."""

    template: str
    ending: str
    start: str  # the command in front of the file's name


KINDS = {
    "slurm": Kind("slurm.sh.jinja", "sbatch", "sbatch"),
    "skypilot": Kind("skypilot.yaml.jinja", "sky.yaml", "sky jobs launch"),
    "kubernetes": Kind("kubernetes.yaml.jinja", "k8s.yaml", "kubectl apply -f"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a launch file is filled in with."""

    name: str  # of the run
    recipe: str  # the name of a shipped recipe, or the absolute path of a file
    recipe_text: str | None  # the file's text; None for a shipped recipe
    settings: tuple[str, ...]  # of `--set`
    shared: str  # the folder that all machines see
    gpu: str  # its name in `model.gpus`
    mesh: Mesh
    node_gpus: int  # GPUs of a machine
    seconds: float  # that the plan takes; 0 where it does not know the time of a stage
    stop_s: float  # that a stage may take to stop; the longest `keep.stop_within_s`
    sampler: Sampler | None = None  # GPUs that only sample
    model: str = ""  # that the servers of the sampler begin with
    longest: int = 0  # tokens of the longest prompt and its reply

    @property
    def recipe_file(self) -> bool:
        return self.recipe_text is not None

    @property
    def num_nodes(self) -> int:
        """Machines that train."""
        return ceil(self.mesh.num_devices / self.node_gpus)

    @property
    def training_node_gpus(self) -> int:
        """Ranks on each of them."""
        return self.mesh.num_devices // self.num_nodes

    @property
    def sampler_nodes(self) -> int:
        """Machines that only sample."""
        return 0 if self.sampler is None else self.sampler.num_gpus // self.node_gpus

    @property
    def time_s(self) -> int:
        """The time limit: the plan's time with a margin, in whole hours."""
        wanted = UNKNOWN_S if not self.seconds else MARGIN * self.seconds + START_S
        return min(MOST_S, ceil(wanted / 3600) * 3600)


def check_launch(kind: str, job: Launch) -> None:
    """Raises:
    ConfigError: a file of this kind cannot express the job; names what to change.
    """
    for flag, text in (("the recipe's path", job.recipe), ("model", job.model)):
        if not text.isprintable():
            raise ConfigError(f"{flag} {text!r}: contains unprintable characters: choose another name")
    if unprintable := [text for text in job.settings if not text.isprintable()]:
        raise ConfigError(f"--set {unprintable[0]!r}: contains unprintable characters: write it into the recipe")
    if not re.fullmatch(r"/[A-Za-z0-9._/@+-]*", job.shared):
        raise ConfigError(
            f"--shared {job.shared}: must be an absolute path of letters, digits and . _ / @ + -, such as /shared"
        )
    if job.num_nodes > 1 and job.mesh.num_devices % job.node_gpus:
        raise ConfigError(
            f"--write {kind}: {job.mesh.num_devices} GPUs do not fill whole machines of {job.node_gpus} GPUs: change "
            "--gpus or --node-gpus"
        )
    if job.sampler is not None:
        _check_sampler(kind, job, job.sampler)


def _check_sampler(kind: str, job: Launch, sampler: Sampler) -> None:
    if kind != "slurm":
        raise ConfigError(
            f"--sampler-gpus {sampler.num_gpus}: only --write slurm starts vLLM servers. Start them yourself, set "
            '`engine = { kind = "vllm_server", url = … }` in the recipe, and plan the GPUs that train alone'
        )
    if sampler.num_gpus % job.node_gpus or job.mesh.num_devices % job.node_gpus:
        raise ConfigError(
            f"--sampler-gpus {sampler.num_gpus}: a launch file gives vLLM servers whole machines: the GPUs that "
            f"sample and those that train must be multiples of --node-gpus {job.node_gpus}"
        )
    if job.node_gpus % sampler.tensor:
        raise ConfigError(
            f"--sampler-gpus {sampler.num_gpus}: a vLLM server of {sampler.tensor} GPUs does not divide a machine of "
            f"{job.node_gpus}: change --node-gpus"
        )
    if not job.model:
        raise ConfigError(
            f"--sampler-gpus {sampler.num_gpus}: vLLM servers start from a checkpoint, and the recipe starts from "
            "random weights: leave --sampler-gpus out"
        )


def launch_text(kind: str, job: Launch) -> str:
    """The launch file.

    Raises:
        ConfigError: see `check_launch`.
    """
    check_launch(kind, job)
    environment = _environment()
    venv, there = f"{job.shared.rstrip('/')}/venv", shlex.quote(job.recipe)
    if job.recipe_file:
        there = {"skypilot": '"$HOME/recipe.toml"', "kubernetes": "/launch/recipe.toml"}.get(kind, there)
    model, _, revision = job.model.partition("@")
    known = {
        "job": job,
        "model": model,
        "revision": revision,
        "file": launch_name(kind, job),
        "title": f"{job.name} on {job.num_nodes + job.sampler_nodes} x {job.node_gpus} {job.gpu}",
        "slug": slug(job.name),
        "venv": venv,
        "out": f"runs/{job.name}",
        "recipe_there": there,
        "grace_s": max(30, ceil(job.stop_s)),
        "time_s": job.time_s,
        "time_limit": f"{job.time_s // 86_400}-{job.time_s % 86_400 // 3600:02}:00:00",
        "accelerator": ACCELERATORS[job.gpu],
        "resource": "amd.com/gpu" if job.gpu == "mi300x" else "nvidia.com/gpu",
    }
    for part in ("common", "torchrun"):
        known[part] = environment.get_template(f"{part}.sh.jinja").render(known).rstrip("\n")
    text: str = environment.get_template(KINDS[kind].template).render(known)
    return text


def launch_name(kind: str, job: Launch) -> str:
    """The file's name."""
    return f"{slug(job.name)}.{KINDS[kind].ending}"


def slug(name: str) -> str:
    """A name as Kubernetes takes it: lower case letters, digits and hyphens, at most 40."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-") or "run"


def _yaml(value: str) -> str:
    """A text as YAML in double quotes: JSON's, with what YAML forbids or takes for the end of a line escaped too."""
    written = json.dumps(value, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda found: f"\\u{ord(found[0]):04x}", written)


def _environment() -> Any:
    """Values go into shell and YAML by the filters `sh`, `yaml` and `line` (a comment) alone."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES / "launch"),
        autoescape=False,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(
        sh=shlex.quote,
        yaml=_yaml,
        line=lambda value: " ".join(str(value).split()),
    )
    return environment
