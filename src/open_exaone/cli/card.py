"""`exaone card`: a model's card."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from open_exaone.base.errors import ConfigError
from open_exaone.base.output import say
from open_exaone.base.text import count


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class CardArguments:
    """The flags of `exaone card`."""

    name: str | None = None
    """The model's name as the hub will have it, owner/name; local/NAME if left out."""
    licence: str | None = None
    """The weights' licence as the hub names it, such as apache-2.0, where no file of the model says it."""
    data_licence: Annotated[list[str] | None, Parameter(negative="", consume_multiple=True)] = None
    """The licence of a run's own rows, as NAME=LICENCE with the data's name in the recipe, such as sft=cc-by-4.0."""
    evaluation: Annotated[list[Path] | None, Parameter(negative="", consume_multiple=True)] = None
    """Folders of `exaone eval` whose results the card gets too; they must be of the same weights."""
    watts: float | None = None
    """The mean power that the whole machine drew, for the estimate of energy; an assumption if left out."""
    source_url: str | None = None
    """Where the measurements can be read; stands as the source in .eval_results/."""
    out: Path | None = None
    """The folder for the card's files; the one that the card is of if left out."""


def card(
    folder: Annotated[
        Path,
        Parameter(
            help="A run's folder, which stands for its last finished model; a model's folder or its name on the hub; "
            "or the folder of an evaluation."
        ),
    ],
    /,
    *,
    args: CardArguments = CardArguments(),
) -> int:
    """Write a model's card in English and Korean, and its results for the hub and for Every Eval Ever.

    Every number is read from the files of the run, the model or the evaluation; card.json names file and field of each.
    """
    from open_exaone.pipeline.card import CardOptions, write_cards

    options = CardOptions(
        id=args.name,
        licence=args.licence,
        data_licences=_pairs(args.data_licence or []),
        evaluations=tuple(args.evaluation or ()),
        watts=args.watts,
        source_url=args.source_url,
    )
    facts, paths = write_cards(folder, options, args.out)
    for note in facts.notes:
        say(f"note: {note}")
    if facts.licence.id == "unknown":
        say(f"note: licence: {facts.licence.why}")
    say(f"{facts.name}: {count(len(facts.results), 'result')}, licence {facts.licence.name or facts.licence.id}")
    for path in paths:
        say(path)
    return 0


def _pairs(given: list[str]) -> dict[str, str]:
    for text in given:
        if "=" not in text:
            raise ConfigError(f"--data-licence {text[:60]}: write it as NAME=LICENCE, such as sft=cc-by-4.0")
    return {name: licence for name, _, licence in (text.partition("=") for text in given)}
