"""The files of a card: for people, for the Hugging Face hub, for Every Eval Ever, and for `exaone leaderboard`."""

import shutil
from pathlib import Path
from typing import Final

from open_exaone.base.files import write_json, write_text
from open_exaone.present.card_facts import Facts
from open_exaone.present.card_hub import eval_results, yaml_text
from open_exaone.present.card_markdown import markdown
from open_exaone.present.card_page import page
from open_exaone.present.every_eval_ever import record

CARD_JSON: Final = "card.json"
EVAL_RESULTS: Final = ".eval_results"
EVERY_EVAL_EVER: Final = "every_eval_ever"


def write_card_files(facts: Facts, out: Path, *, source_url: str | None = None) -> list[Path]:
    """Writes card.md, card.html, card.json, `.eval_results/` and `every_eval_ever/`; returns the files' paths.

    The two folders are written anew, so that no result of an older card stays in them.
    """
    texts = {"card.md": markdown(facts), "card.html": page(facts)}
    for name, entries in eval_results(facts, source_url).items():
        texts[f"{EVAL_RESULTS}/{name}"] = yaml_text(entries)
    for name in (EVAL_RESULTS, EVERY_EVAL_EVER):
        _remove(out / name)
    for name, text in texts.items():
        write_text(out / name, text)
    write_json(out / CARD_JSON, facts.model_dump(mode="json", exclude_defaults=False))
    paths = [out / name for name in (*texts, CARD_JSON)]
    if (found := record(facts)) is not None:
        path = out / EVERY_EVAL_EVER / found[0]
        write_json(path, found[1])
        paths.append(path)
    return paths


def _remove(folder: Path) -> None:
    """Removes what an older card left; a link there is taken away, not followed."""
    if folder.is_symlink():
        folder.unlink()
    elif folder.is_dir():
        shutil.rmtree(folder)
