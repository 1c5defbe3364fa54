"""Every kind of page: valid HTML, links that resolve, a title, a bounded size; nothing is cut, nothing fails."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import chromium
from chromium import Chromium
from made_up_pages import write_pages
from page_checks import ACCESS, OVERFLOW, faults

MAX_BYTES = 300_000
LEADERBOARD = (  # pages of the leaderboard's site, one of each kind in either language
    *("index.html", "models/mine.html", "models/exaone-4-0-32b.html", "labs/lg.html", "architectures/dense.html"),
    *("rankings/aime-2025.html", "rankings/mine-test.html", "cards/mine.html"),
)


class Page(HTMLParser):
    """A page's title, links and ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.title = ""
        self._is_in_title = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._is_in_title = tag == "title" and not self.title
        self.links += [value or "" for name, value in attrs if name == "href" and tag == "a"]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_endtag(self, tag: str) -> None:
        self._is_in_title = False

    def handle_data(self, data: str) -> None:
        self.title += data if self._is_in_title else ""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found = write_pages(tmp_path_factory.mktemp("pages"))
    site = found.pop("leaderboard").parent
    return found | {f"{top}{name}": site / top / name for top in ("", "ko/") for name in LEADERBOARD}


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    if chromium.PATH is None:
        pytest.skip(chromium.MISSING)
    with Chromium() as started:
        started.send("Log.enable")
        yield started


def test_every_page_is_valid_html_of_a_bounded_size(pages: dict[str, Path]) -> None:
    html5lib = pytest.importorskip("html5lib", reason="html5lib is not installed")
    for kind, path in pages.items():
        text = path.read_text(encoding="utf-8")
        assert len(text.encode()) < MAX_BYTES, kind
        assert 'class=""' not in text, kind
        parser = html5lib.HTMLParser(tree=html5lib.getTreeBuilder("etree"))
        parser.parse(text.replace("\uffff", ""))  # named by a regular expression of the vendored converter of formulas
        assert [(place, error) for place, error, _ in parser.errors] == [], kind


def test_every_link_leads_somewhere_and_no_two_pages_share_a_title(pages: dict[str, Path]) -> None:
    found = {path.resolve(): Page(path.read_text(encoding="utf-8")) for path in pages.values()}
    for path, page in found.items():
        assert page.title.strip() and len(page.ids) == len(set(page.ids)), path
        for link in page.links:
            file, _, fragment = link.partition("#")
            file = file.partition("?")[0]  # the page of a run that goes on asks its server for a stage
            target = (path.parent / file).resolve() if file else path
            assert target.is_file(), (path, link)
            other = found.get(target) or Page(target.read_text(encoding="utf-8"))
            assert not fragment or fragment in other.ids or (page is other and fragment.startswith("/")), (path, link)
    titles = [page.title for page in found.values()]
    assert len(set(titles)) >= len(titles) - 2, titles  # a card and a run's card of the same model have the same one


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_every_page_works_at_400_pixels(browser: Chromium, pages: dict[str, Path], dark: bool) -> None:
    """No console error, nothing past the edge, and texts, headings and pictures that can be read by everybody."""
    browser.look(400, 900, dark=dark)
    for kind, path in pages.items():
        browser.visit(path.as_uri())
        browser.wait("!document.querySelector('#detail') || document.querySelector('#detail h3')")  # a sample is shown
        assert faults(browser.events) == [], kind
        assert browser.evaluate(OVERFLOW) == [], kind
        assert browser.evaluate(ACCESS) == [], kind
