"""The documents: the reference is what the code says, every page is listed, every link and quotation is right."""

import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import chromium
import generate_reference
import site_pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WRITTEN = [*sorted(DOCS.rglob("*.md")), *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY"))]
LINK = re.compile(r"\[[^\[\]]*\]\(([^()\s]+)\)")
CODE = re.compile(r"^ *```.*?^ *```$|``[^\n]+?``|`[^`\n]+`", re.MULTILINE | re.DOTALL)
FENCES = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("name", generate_reference.PAGES)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    written = (DOCS / "reference" / name).read_text(encoding="utf-8")
    assert written == generate_reference.PAGES[name](), "python docs/site/generate_reference.py writes it anew"


def test_the_index_lists_every_page() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = {(DOCS / target).resolve() for target in LINK.findall(index) if site_pages.is_page(target)}
    left_out = {path.resolve() for path in DOCS.rglob("*.md")} - listed - {DOCS / "index.md"}
    assert not left_out, f"give each a row in docs/index.md: {sorted(map(named, left_out))}"


def test_the_sites_contents_are_those_of_the_index() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    contents = site_pages.contents(index)
    entries = re.findall(r"^.+ <([\w./-]+)>$", contents, flags=re.MULTILINE)
    assert sorted(entries) == sorted(
        {target.removesuffix(".md") for target in LINK.findall(index) if site_pages.is_page(target)}
    )
    assert re.findall(r":caption: (.+)", contents) == re.findall(r"^## (.+)$", index, flags=re.MULTILINE)


@cache
def anchors(path: Path) -> frozenset[str]:
    """The names that GitHub gives to a page's headings."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found: list[str] = []
    for heading in re.findall(r"^#{1,6} (.+)$", text, flags=re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()).replace(" ", "-")
        found.append(name if name not in found else f"{name}-{found.count(name)}")
    return frozenset(found)


def broken(path: Path) -> Iterator[str]:
    """The relative links of a page that lead nowhere."""
    for target in LINK.findall(CODE.sub("", path.read_text(encoding="utf-8"))):
        if "://" in target or target.startswith("mailto:"):
            continue
        file, _, anchor = target.partition("#")
        to = (path.parent / file).resolve() if file else path
        if not to.exists() or (anchor and (to.suffix != ".md" or anchor not in anchors(to))):
            yield target


@pytest.mark.parametrize("path", WRITTEN, ids=named)
def test_links_and_anchors_lead_somewhere(path: Path) -> None:
    assert list(broken(path)) == []


def test_a_copied_figure_stands_on_the_page_that_its_row_names() -> None:
    rows = re.findall(
        r"^\| [^|]+ \| ([^|]+) \| \[[^\]]+\]\(([^)#]+)[^)]*\) \| [^|]+ \|$",
        (DOCS / "performance.md").read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    )
    assert rows
    for figures, page in rows:
        text = (DOCS / page).read_text(encoding="utf-8")
        for number in re.findall(r"\b\d[\d,.]*\b", figures.replace("5xx", "")):
            assert re.search(rf"(?<![\d.,]){re.escape(number)}(?![\d]|[.,]\d)", text), f"{number} is not in {page}"


def test_the_benchmarks_page_names_every_script_and_no_other() -> None:
    folder = ROOT / "benchmarks"
    listed = re.findall(r"`([\w/]+\.py)`", (folder / "README.md").read_text(encoding="utf-8"))
    assert set(listed) == {str(path.relative_to(folder)) for path in folder.rglob("*.py")}


def blocks(name: str, language: str) -> list[str]:
    text = (DOCS / name).read_text(encoding="utf-8")
    return [block for found, block in FENCES.findall(text) if found == language]


def test_the_reward_page_quotes_the_example() -> None:
    example = ROOT / "examples" / "own_task"
    [problem], [function], [stage] = (blocks("howto-reward.md", each) for each in ("json", "python", "toml"))
    assert (example / "problems.jsonl").read_text(encoding="utf-8").startswith(problem)
    assert (example / "my_rewards.py").read_text(encoding="utf-8").endswith(function)
    assert stage in (example / "recipe.toml").read_text(encoding="utf-8")


def test_the_fine_tuning_page_shows_the_example_and_good_rows(tmp_path) -> None:
    from open_exaone.data.check import check

    [shown] = map(tomllib.loads, blocks("howto-fine-tune.md", "toml"))
    example = tomllib.loads((ROOT / "examples" / "finetune" / "lora.toml").read_text(encoding="utf-8"))
    assert shown["stages"] == example["stages"] and shown["model"] == example["model"]
    [rows] = blocks("howto-fine-tune.md", "json")
    file = tmp_path / "rows.jsonl"
    file.write_text(rows, encoding="utf-8")
    report = check(str(file))
    assert (report.good, report.num_bad) == (2, 0)


@pytest.mark.parametrize("page", ["quickstart", "story"])
def test_a_korean_page_has_the_commands_and_figures_of_the_english_one(page: str) -> None:
    def commands(name: str) -> list[str]:
        return [re.sub(r"\s+#.*", "", line) for block in blocks(name, "sh") for line in block.splitlines()]

    def figures(name: str) -> Counter[str]:
        text = (DOCS / name).read_text(encoding="utf-8")
        return Counter(re.findall(r"[-+]?\d[\d,]*\.\d+|[-+]?\d+(?=(?:(?: to |~)\d+)? ?%)|\d+,\d{3}", text))

    assert commands(f"{page}.md") == commands(f"{page}.ko.md")
    assert figures(f"{page}.md") == figures(f"{page}.ko.md")


def test_links_out_of_docs_become_paths_and_code_stays() -> None:
    code = "```md\n[x](../y.md)\n```\n"
    text = f"See [../README.md](../README.md), [the gates](../CONTRIBUTING.md#gates), [data](data.md).\n{code}"
    assert site_pages.outside_links_replaced("index", text) == (
        f"See `README.md`, the gates (`CONTRIBUTING.md`), [data](data.md).\n{code}"
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built without a warning."""
    if not all(map(find_spec, ("sphinx", "furo", "myst_parser"))):
        pytest.skip("the extra docs is not installed")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q"]
    done = subprocess.run(
        [*command, "-c", str(DOCS / "site"), str(DOCS), str(out)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"DOCS_REPOSITORY": ""},
    )
    assert done.returncode == 0, done.stderr
    return out


class Links(HTMLParser):
    """The names in a page, and what it links to or loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.targets: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value}
        self.names |= {values[name] for name in ("id", "name") if name in values}
        targets = [values[name] for name in ("href", "src") if name in values]
        self.targets += targets
        self.loaded += targets if tag != "a" else []


def test_the_site_asks_no_other_host_and_every_link_leads_somewhere(site: Path) -> None:
    pages = {path.resolve(): Links(path.read_text("utf-8")) for path in site.rglob("*.html")}
    assert site.resolve() / "quickstart.ko.html" in pages
    for path, links in pages.items():
        assert not [target for target in links.loaded if re.match(r"(?:https?:)?//", target)], path.name
        for target in filter(None, links.targets):
            parts = urlsplit(target)
            if parts.scheme or parts.netloc or target == "#":
                continue
            to = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert to.exists(), f"{path.name}: {target}"
            assert not (parts.fragment and to in pages) or unquote(parts.fragment) in pages[to].names, (
                f"{path.name}: {target}"
            )
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"(?:url\(|@import\s+)[\"']?(?:https?:)?//", sheet.read_text("utf-8")), sheet.name


# What reaches over the right edge of the window and stands in no box of its own that scrolls, as tables and code do.
CUT_OFF = """[...document.querySelectorAll('article *')].filter(element => {
  const isOutside = box => box.getBoundingClientRect().right > innerWidth + 1
  if (!isOutside(element)) return false
  for (let box = element; box.tagName !== 'ARTICLE'; box = box.parentElement)
    if (['auto', 'scroll'].includes(getComputedStyle(box).overflowX) && !isOutside(box)) return false
  return true
}).map(element => element.tagName + ': ' + element.textContent.slice(0, 60))"""


@pytest.mark.skipif(chromium.PATH is None, reason=chromium.MISSING)
def test_no_page_of_the_site_is_wider_than_a_telephone(site: Path) -> None:
    with chromium.Chromium() as browser:
        browser.look(400, 800)
        for path in sorted(site.rglob("*.html")):
            browser.visit(path.as_uri())
            assert browser.evaluate(CUT_OFF) == [], path.name
