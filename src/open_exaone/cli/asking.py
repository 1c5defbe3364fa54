"""The flags that `exaone data filter` and `exaone data build` share: which model is asked, and how."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from open_exaone.cli.data_sources import read_problem_sources
from open_exaone.cli.eval import check_engine, check_ranks
from open_exaone.cli.flags import HubSet, JudgeLimits, MachineFlags, Repeated, RowFormat, SamplingFlags, read_options
from open_exaone.cli.ranks import sample_in_ranks

if TYPE_CHECKING:
    from open_exaone.pipeline.evaluate import Choices
    from open_exaone.pipeline.sampled import Asking
    from open_exaone.train.parallel.world import World

Asked = Annotated[
    str,
    Parameter(
        help="A run's folder, a model's folder, owner/name[@revision] on the hub, or an endpoint's address; with "
        "--engine ADDRESS, the model's name at that endpoint."
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class AskingFlags:
    """Which model is asked, by what engine, and how problems are read and replies are judged."""

    drawing: SamplingFlags = field(default_factory=SamplingFlags)
    stage: str | None = None
    """The stage of the run whose model is asked; its last finished stage if left out."""
    engine: str = "local"
    """What generates the replies: local, vllm, vllm_server, or the address of an OpenAI-compatible endpoint; see
    `exaone eval --help`."""
    engine_option: Repeated = None
    """An option of the engine, such as tensor_parallel_size=4 (vllm); may be repeated."""
    concurrency: int | None = None
    """The number of requests that a server gets at the same time; 32, or 256 with vllm_server, if left out."""
    ranks: int | None = None
    """Sample and judge in so many processes on this machine, each with the model on its GPU or its share of the cores;
    torchrun starts them too. For the local engine."""
    columns: RowFormat = field(default_factory=RowFormat)
    domain: str | None = None
    """The subject of all rows; --field domain=COLUMN reads it from each row instead."""
    hub: HubSet = field(default_factory=HubSet)
    settings: JudgeLimits = field(default_factory=JudgeLimits)
    machine: MachineFlags = field(default_factory=MachineFlags)

    def sampling(self) -> dict[str, Any]:
        """How replies are drawn, as far as flags say: what a `SamplingConfig` takes.

        Raises:
            ConfigError: --logit-bias is malformed.
        """
        return {name: value for name, value in self.drawing.given().items() if name != "seed"}

    def sample(self, source: str, act: "Callable[[World], int]") -> int:
        """Runs the command, in several ranks where the flags or torchrun have it so: its exit status.

        Args:
            act: the command, on the first rank.

        Raises:
            ConfigError: a flag is wrong, or does not go with the engine.
        """
        from open_exaone.pipeline.evaluate import serving_model

        check_engine(source, self.engine, self.concurrency, self.machine)
        check_ranks(source, self.engine, self.ranks)
        machine = self.machine.machine()
        return sample_in_ranks(
            self.ranks,
            machine.device,
            act,
            lambda: serving_model(source, self._choices(), machine, self.settings.read()),
        )

    def _choices(self) -> "Choices":
        from open_exaone.pipeline.evaluate import Choices

        options = read_options(self.engine_option)
        return Choices(stage=self.stage, engine=self.engine, concurrency=self.concurrency, engine_options=options)

    def read(
        self,
        source: str,
        sources: Sequence[str],
        out: Path,
        on_event: Callable[[dict[str, Any]], None],
        world: "World",
    ) -> "Asking":
        """The flags as the pipeline takes them.

        Raises:
            ConfigError: a flag is wrong, or does not go with the engine.
        """
        from open_exaone.pipeline.sampled import Asking

        return Asking(
            source=source,
            data=read_problem_sources(sources, self.columns, self.hub, self.domain),
            out=out,
            engine=self._choices(),
            seed=self.drawing.seed or 0,
            machine=self.machine.machine(),
            settings=self.settings.read(),
            on_event=on_event,
            world=world,
        )
