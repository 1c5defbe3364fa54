"""The files of a card: for people, for the Hugging Face hub, for Every Eval Ever, and for `exaone leaderboard`."""

from pathlib import Path
from typing import Final

from open_exaone.base.errors import DataError
from open_exaone.base.files import read_json, write_json, write_text
from open_exaone.present.card_facts import Facts, read_facts
from open_exaone.present.card_hub import eval_results, yaml_text
from open_exaone.present.card_markdown import markdown
from open_exaone.present.card_page import page
from open_exaone.present.every_eval_ever import record
from open_exaone.present.localized import Texts

CARD_JSON: Final = "card.json"
EVAL_RESULTS: Final = ".eval_results"
EVERY_EVAL_EVER: Final = "every_eval_ever"
KOREAN_PAGE: Final = "card.ko.html"


def write_card_files(facts: Facts, out: Path, *, source_url: str | None = None) -> list[Path]:
    """Writes card.md and card.html, both in Korean too, card.json, `.eval_results/` and `every_eval_ever/`.

    Results that an older card of this folder left there go; other files in these folders stay.

    Returns:
        the files' paths.
    """
    old = _results_of_old_card(out)
    korean = Texts("card", "ko")
    texts = {"card.md": markdown(facts), "card.html": page(facts, elsewhere=KOREAN_PAGE)}
    texts |= {"card.ko.md": markdown(facts, korean), KOREAN_PAGE: page(facts, korean, elsewhere="card.html")}
    for name, entries in eval_results(facts, source_url).items():
        texts[f"{EVAL_RESULTS}/{name}"] = yaml_text(entries)
    for name, text in texts.items():
        write_text(out / name, text)
    write_json(out / CARD_JSON, facts.model_dump(mode="json"))
    paths = [out / name for name in (*texts, CARD_JSON)]
    if (found := record(facts)) is not None:
        paths.append(out / EVERY_EVAL_EVER / found[0])
        write_json(paths[-1], found[1])
    for path in old - set(paths):
        path.unlink(missing_ok=True)
    return paths


def _results_of_old_card(out: Path) -> set[Path]:
    """The files of results that belong to the card that the folder has; none where it has none that can be read."""
    path = out / CARD_JSON
    if not path.is_file():
        return set()
    try:
        facts = read_facts(read_json(path), str(path))
    except DataError:
        return set()
    found = {out / EVAL_RESULTS / name for name in eval_results(facts)}
    return found | {out / EVERY_EVAL_EVER / old[0] for old in [record(facts)] if old is not None}
