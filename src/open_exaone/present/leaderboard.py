"""`exaone leaderboard`'s site: static pages in English and Korean that open from disk; each stands alone."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_json, write_json, write_text
from open_exaone.present.card_page import Link
from open_exaone.present.card_page import page as card_page
from open_exaone.present.leaderboard_pages import Board, board, group_page, index_page, model_page, ranking_page
from open_exaone.present.leaderboard_rows import Model
from open_exaone.present.leaderboard_texts import LeaderboardTexts
from open_exaone.present.localized import LANGUAGES, Texts

PAGES: Final = "leaderboard.json"  # the site's pages, so that the next one takes away those that are no longer
_PAGE = re.compile(r"(ko/)?(index|(models|labs|architectures|rankings|cards)/[a-z0-9-]{1,80})\.html")


def write_site(models: Sequence[Model], out: Path) -> list[Path]:
    """Writes every page; returns their paths, the first one the entry.

    Raises:
        ConfigError: the folder holds something else than a leaderboard.
    """
    old = _old_pages(out)
    pages = dict(_pages(board(models)))
    for name in old - pages.keys():
        (out / name).unlink(missing_ok=True)
    for name, text in pages.items():
        write_text(out / name, text)
    write_json(out / PAGES, {"pages": sorted(pages)})
    return [out / name for name in pages]


def _pages(some: Board) -> Iterator[tuple[str, str]]:
    """Each page's path and text; English at the top, Korean in `ko/`."""
    for language in LANGUAGES:
        texts, top = LeaderboardTexts(language), "" if language == LANGUAGES[0] else f"{language}/"
        yield f"{top}index.html", index_page(some, texts)
        for model in some.models:
            yield f"{top}models/{model.slug}.html", model_page(some, model, texts)
        for folder, groups in (("labs", some.labs), ("architectures", some.types)):
            for group in groups:
                yield f"{top}{folder}/{group.slug}.html", group_page(some, group, folder, texts)
        for name, slug in some.slugs.items():
            yield f"{top}rankings/{slug}.html", ranking_page(some, name, texts)
        for model in some.models:
            if model.facts is not None:
                name = f"cards/{model.slug}.html"
                elsewhere = f"../{texts.other}/{name}" if not top else f"../../{name}"
                back = (Link(texts("site"), "../index.html"), Link(model.name, f"../models/{model.slug}.html"))
                yield f"{top}{name}", card_page(model.facts, Texts("card", language), elsewhere, back)


def _old_pages(out: Path) -> set[str]:
    """The pages of the leaderboard that the folder holds; none of them may lead out of it."""
    if not out.exists() or not any(out.iterdir()):
        return set()
    if not (out / PAGES).is_file():
        raise ConfigError(f"{out}: is not empty and holds no leaderboard: choose another folder with --out")
    found = read_json(out / PAGES)
    names = found.get("pages") if isinstance(found, dict) else None
    return {name for name in names or () if isinstance(name, str) and _PAGE.fullmatch(name)}
