"""The leaderboard's site: it stands alone, links resolve, numbers are those of the data, and texts are inert."""

import json
import re
import shutil
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import tiny_evaluation
from chromium import MISSING, PATH, Chromium
from made_up_run import make_run
from open_exaone.base.config import read_toml
from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_json, write_json
from open_exaone.cli.main import main
from open_exaone.evaluation.published import load_tables
from open_exaone.evaluation.published_models import published_models
from open_exaone.pipeline.card import write_cards
from open_exaone.pipeline.leaderboard import build_leaderboard
from open_exaone.present import localized, readings
from open_exaone.present.leaderboard_pages import board, group_page, index_page, ranking_page
from open_exaone.present.leaderboard_plots import dots, scale, scatter, shorten_middle, thought_dots
from open_exaone.present.leaderboard_rows import Model, Score
from open_exaone.present.leaderboard_texts import LeaderboardTexts
from page_checks import ACCESS

MAX_BYTES = 300_000
HOSTILE = tiny_evaluation.HOSTILE
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """A page's links, ids and loads; every tag is closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.handlers: list[str] = []
        self.sources: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        assert len(found) == len(attrs), (tag, attrs)
        self.handlers += [name for name in found if name.startswith("on")]
        self.sources += [value or "" for name, value in attrs if name in ("src", "srcset", "data", "action", "poster")]
        self.links += [value or "" for name, value in attrs if name == "href"]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one name, an evaluation of a benchmark, and the published models."""
    place = tmp_path_factory.mktemp("site")
    first, second = make_run(place / "a" / "mine"), make_run(place / "b" / "mine", seed=8)
    (second / "02-rl" / "model" / "tokenizer.json").write_text("{ }")
    evaluation = place / "eval"
    write_json(evaluation / "report.json", measured())
    write_json(evaluation / "evaluation.json", {})
    build_leaderboard([first, second, evaluation, first], place / "site")
    return place / "site"


def measured() -> dict[str, Any]:
    report = tiny_evaluation.report(["aime_2025", "math_500"])
    report["tasks"][0]["is_whole"] = True
    report["tasks"][1] |= {"num_problems": None, "ci95": None}
    return report


def pages(site: Path) -> dict[str, str]:
    return {str(path.relative_to(site)): path.read_text(encoding="utf-8") for path in site.rglob("*.html")}


def test_every_page_stands_alone_and_every_link_resolves(site: Path) -> None:
    found = {name: Page(text) for name, text in pages(site).items()}
    assert len(found) > 150
    for name, page in found.items():
        assert (site / name).stat().st_size < MAX_BYTES, name
        assert page.sources == [] and page.handlers == [] and page.tags.isdisjoint({"img", "iframe", "link", "object"})
        assert len(page.ids) == len(set(page.ids)), name
        for link in page.links:
            path, _, anchor = link.partition("#")
            target = ((site / name).parent / path).resolve() if path else (site / name).resolve()
            other = found.get(str(target.relative_to(site.resolve())))
            assert other is not None and (not anchor or anchor in other.ids), (name, link)
    assert found.keys() == {Path(name).as_posix() for name in read_json(site / "leaderboard.json")["pages"]}


def test_each_page_has_its_twin_in_the_other_language(site: Path) -> None:
    found = pages(site)
    english = {name for name in found if not name.startswith("ko/")}
    assert {f"ko/{name}" for name in english} == {name for name in found if name.startswith("ko/")}
    for name in english:
        assert '<html lang="en">' in found[name] and '<html lang="ko">' in found[f"ko/{name}"]
        up = "../" * name.count("/")
        assert f'href="{up}ko/{name}"' in found[name] and f'href="../{up}{name}"' in found[f"ko/{name}"]


def test_every_text_is_there_in_both_languages_with_the_same_places() -> None:
    texts = read_toml(localized.FOLDER / "leaderboard.toml")
    said = texts.pop("said")
    for key, both in [*texts.items(), *said.items()]:
        assert both.keys() == {"en", "ko"}, key
        assert sorted(re.findall(r"{(\w+)}", both["en"])) == sorted(re.findall(r"{(\w+)}", both["ko"])), key
    used = set()
    for path in localized.FOLDER.parents[1].rglob("*leaderboard*"):
        if path.suffix in (".py", ".jinja"):
            used |= set(re.findall(r"[\"'](\w+)[\"']", path.read_text(encoding="utf-8")))
    assert texts.keys() <= used


def test_every_published_number_is_on_its_model_s_page_and_its_ranking(site: Path) -> None:
    found = pages(site)
    models = {
        re.search(r"<h1[^>]*>(.*?)</h1>", text)[1]: text for name, text in found.items() if name.startswith("models/")
    }  # type: ignore[index]
    assert models.keys() >= published_models().keys()
    for row in load_tables():
        if row.percent is not None:
            assert f'data-v="{row.percent}"' in models[row.model], row
    ranking = found["rankings/aime-2025.html"]
    scores = [
        float(value) for value in re.findall(r'</td><td data-v="([\d.]+)"[^>]*>[\d.]+</td><td[^>]*>[≈\d–]', ranking)
    ]
    assert len(scores) > 20 and "≈70.5–95.4" in ranking


def test_the_list_s_page_of_exaone_4_is_reproduced(site: Path) -> None:
    text = pages(site)["models/exaone-4-0-32b.html"]
    part = unescape(re.sub(r"<[^>]+>", " ", text[text.index('id="seed"') : text.index('class="board"')]))
    words = " ".join(part.split())
    for said in (
        *("organization LG", "released Jul/2025", "parameters 32.0B", "training tokens 14,000.0B", "tags Reasoning"),
        *("tokens for each parameter 438:1 compute-optimal", "ALScore 2.2 (Mid-tier)", "dataset type web-scale"),
        *("MMLU [1] 92.3", "MMLU-Pro 81.8", "GPQA 75.4", "HLE - 10.6", "[1] MMLU score is MMLU-Redux."),
        "Exceptional performance on MMLU benchmark (>90%), demonstrating strong general knowledge.",
        "Good reasoning capabilities on GPQA (60-80%).",
    ):
        assert said in words, said


@pytest.mark.parametrize(
    ("score", "word"),
    [
        *((0.99, "Lightweight"), (1, "Mid-tier"), (4.99, "Mid-tier"), (5, "Powerful"), (10, "Very powerful")),
        *((19.9, "Very powerful"), (20, "Extremely powerful"), (0, "Lightweight")),
    ],
)
def test_tiers(score: float, word: str) -> None:
    assert readings.tier(score) == word


def test_the_list_s_formulas() -> None:
    assert readings.alscore(32e9, 14e12) == pytest.approx((32 * 14_000) ** 0.5 / 300)
    assert [readings.token_ratio(2, tokens) for tokens in (40, 40.1, 41)] == [20, 21, 21]
    assert readings.is_compute_optimal(20) and not readings.is_compute_optimal(19)
    words = {
        (name, value): readings.reading(name, value) for name in ("MMLU", "GPQA") for value in (59, 60, 79, 80, 89, 90)
    }
    assert {key: one.word for key, one in words.items() if one} == {
        **{("MMLU", 80): "Strong", ("MMLU", 89): "Strong", ("MMLU", 90): "Exceptional"},
        **{("GPQA", 60): "Good", ("GPQA", 79): "Good"},
        **{("GPQA", value): "Outstanding" for value in (80, 89, 90)},
    }


def test_models_of_one_name_stay_apart(site: Path) -> None:
    found = pages(site)
    first, second = found["models/mine.html"], found["models/mine-2.html"]
    names = [re.search(r"<h1[^>]*>(.*?)</h1>", text)[1] for text in (first, second)]  # type: ignore[index]
    assert all(re.fullmatch(r"mine \([0-9a-f]{8}\)", name) for name in names) and names[0] != names[1]
    assert {"cards/mine.html", "cards/mine-2.html"} <= found.keys() and "models/mine-3.html" not in found  # one twice


def test_a_run_s_own_problems_are_not_another_recipe_s(site: Path) -> None:
    assert "rankings/mine-test.html" in pages(site) and "rankings/test.html" not in pages(site)


def test_a_result_without_n_says_so_and_has_no_interval(site: Path) -> None:
    text = (
        pages(site)["models/rl.html"]
        if "models/rl.html" in pages(site)
        else pages(site)["models/nano-exaone-deep-rl.html"]
    )
    row = next(line for line in text.splitlines() if ">MATH-500<" in line)
    assert "not stated" in row and "–" in row and "≈" not in row


def test_another_folder_is_refused_and_old_pages_go(site: Path, tmp_path: Path) -> None:
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    (copy / "own.txt").write_text("kept")
    build_leaderboard([], copy)
    assert not (copy / "models" / "mine.html").exists() and (copy / "own.txt").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(ConfigError, match="holds no leaderboard"):
        build_leaderboard([], tmp_path / "other")
    outside = tmp_path / "victim.html"
    outside.write_text("")
    write_json(copy / "leaderboard.json", {"pages": ["../victim.html", 5, "own.txt"]})
    build_leaderboard([], copy)
    assert outside.exists() and (copy / "own.txt").exists()


def test_hostile_texts_are_shown_and_never_act(tmp_path: Path) -> None:
    report = measured()
    report["model"]["model"] = (HOSTILE + tiny_evaluation.STEERING) * 1_000  # more than 100 KB
    for task in report["tasks"]:
        task["benchmark"] = task["name"] = HOSTILE * 1_000
    write_json(tmp_path / "e" / "evaluation.json", {})
    (tmp_path / "e" / "report.json").write_text(json.dumps(report))  # half a surrogate pair is an escape there
    _, written = build_leaderboard([tmp_path / "e"], tmp_path / "site")
    for path in written:
        page = Page(path.read_text(encoding="utf-8"))
        assert page.tags.isdisjoint({"img", "iframe"}) and page.handlers == []
        assert re.fullmatch(r"[a-z0-9.-]+\.html", path.name)
        assert path.stat().st_size < MAX_BYTES or "cards" in path.parts, path
    assert not re.search("[\x00\x1b\u202e]", (tmp_path / "site" / "index.html").read_text(encoding="utf-8"))


def test_a_card_is_enough(tmp_path: Path) -> None:
    write_cards(make_run(tmp_path / "mine"), out=tmp_path / "card")
    models, _ = build_leaderboard([tmp_path / "card"], tmp_path / "site")
    assert models[0].name == "mine" and models[0].scores[0].percent == pytest.approx(62.57)


def test_what_is_no_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["leaderboard", str(tmp_path / "nowhere"), "--out", str(tmp_path / "site")])
    assert "is no folder" in capsys.readouterr().err


def score(percent: float, tag: str = "P", thought: float | None = None, setting: str = "") -> Score:
    return Score("b", "reasoning", "pass@1", setting, percent, percent - 3, percent + 3, 30, 1, "s", tag, thought)


def model(name: str, size: float | None, *scores: Score) -> Model:
    return Model(name, "lab", "dense", "open weights", size, None, None, False, "", scores)


def test_a_chart_has_a_point_for_each_model_whose_size_is_known() -> None:
    models = [model("one", 1e9, score(10)), model("two", 1e11, score(90, "measured")), model("three", None, score(50))]
    found = dots(models, "b", lambda one, _: one.parameters)
    assert [(point.name, point.x, point.score.percent) for point in found] == [("one", 1e9, 10), ("two", 1e11, 90)]
    svg = scatter("b", found)
    assert svg is not None and svg.count("<circle") == 2 and svg.count('class="bar"') == 1
    assert "two 90.0%" in svg.partition(">")[0]  # what is read aloud
    one, two = (float(x) for x in re.findall(r'cx="([\d.]+)"', svg))
    assert one < two  # the measured one is drawn last, above the others
    assert scatter("b", found[:1]) is None


def test_a_model_s_budgets_are_joined_in_the_chart_by_thought_tokens() -> None:
    budgets = [score(80, "measured", 50.0, "budget 1,024"), score(20, "measured", 8.0, "budget 16")]
    others = [score(70, "measured", 40.0, "part"), score(60, "measured", None), score(9, "measured", 0.0, "budget 8")]
    found = thought_dots([model("one", None, *budgets, *others), model("two", None, score(85, "P", 60.0))], "b")
    assert [(dot.name, dot.x) for dot in found] == [("one", 8.0), ("one", 50.0), ("two", 60.0)]
    svg = scatter("t", found)
    assert svg is not None and svg.count('class="joined"') == 1 and svg.count("<circle") == 3
    assert svg.count(">one<") == 1 and "budget 1,024: 80.0%" in svg


@pytest.mark.parametrize(
    ("low", "high", "values"),
    [
        (0.9, 2.1, [10, 20, 50, 100]),
        (1.3, 1.6, [20]),
        (22.0, 25.2, [1e22, 1e23, 1e24, 1e25]),
        (-1.0, 13.0, [0.1, 1e2, 1e5, 1e8, 1e11]),
    ],
)
def test_a_scale_has_few_round_values(low: float, high: float, values: list[float]) -> None:
    assert scale(low, high) == pytest.approx(values)


def test_names_that_differ_at_their_ends_still_differ_when_cut() -> None:
    names = [shorten_middle(f"nano-exaone-deep-of-a-long-name ({end})", 24) for end in ("1aa38aff", "63a80131")]
    assert len(set(names)) == 2 and all(len(name) <= 24 for name in names)
    assert shorten_middle("short", 24) == "short"


def test_a_hundred_and_fifty_models_fit_on_a_page(tmp_path: Path) -> None:
    models, _ = build_leaderboard([make_run(tmp_path / "mine")], tmp_path / "site")
    scores = [replace(models[0].scores[0], thought_tokens=20.0 + place, percent=float(place)) for place in range(123)]
    many = [
        replace(models[0], name=f"nano-exaone-deep ({place:08d})", slug=f"nano-{place}", scores=(one,))
        for place, one in enumerate(scores)
    ]
    some, texts = board([*many, *models[1:]]), LeaderboardTexts("ko")
    own = next(group for group in some.labs if len(group.models) == 123)
    name = scores[0].benchmark
    texts_of_pages = [index_page(some, texts), ranking_page(some, name, texts), group_page(some, own, "labs", texts)]
    assert len(some.models) == 150 and all(text.count("nano-122") for text in texts_of_pages)
    assert max(len(text.encode()) for text in texts_of_pages) < MAX_BYTES


def test_only_sizes_from_the_makers_own_pages_are_no_estimates() -> None:
    found = published_models().values()
    assert {model.tag for model in found} <= {"P", "S2", "S", ""}
    for known in found:
        assert known.source and (known.is_estimate or "@" in known.source or "published shape" in known.source)
    assert sum(not known.is_estimate for known in found) == 9


VIEWED = (
    "index.html",
    "models/exaone-4-0-32b.html",
    "rankings/mine-test.html",
    "cards/mine.html",
    "ko/cards/mine.html",
)


@pytest.mark.skipif(PATH is None, reason=MISSING)
def test_pages_can_be_read_and_used_without_a_mouse_in_light_and_dark(site: Path) -> None:
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    with Chromium() as browser:
        for name in VIEWED:
            for dark in (False, True):
                browser.look(400, 900, dark=dark)
                browser.visit((site / name).as_uri())
                assert browser.evaluate(ACCESS) == [], (name, dark)
                assert browser.evaluate("document.documentElement.scrollWidth") <= 400, name
        browser.visit((site / "index.html").as_uri())
        browser.evaluate("document.querySelector('.board th:nth-child(5) button').focus()")
        browser.send("Input.dispatchKeyEvent", type="keyDown", **enter)
        browser.send("Input.dispatchKeyEvent", type="keyUp", **enter)
        assert browser.evaluate("document.querySelector('.board th:nth-child(5)').ariaSort") == "descending"
        assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.skipif(PATH is None, reason=MISSING)
def test_pages_print_in_light_colours_and_nothing_is_cut(site: Path) -> None:
    print_dark = {"media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    with Chromium() as browser:
        for name in VIEWED:
            browser.look(718 if "cards/" in name else 1046, 900)  # A4, upright and across
            browser.visit((site / name).as_uri())
            browser.send("Emulation.setEmulatedMedia", **print_dark)
            assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)", name
            right = "Math.max(...[...document.querySelectorAll('table, pre, svg, p')].map((one) =>"
            right += " one.getBoundingClientRect().right)) - innerWidth"
            assert browser.evaluate(right) <= 0.5, name
            assert browser.evaluate(
                "[...document.querySelectorAll('.scroll')].every((one) => one.scrollWidth <= one.clientWidth + 1)"
            ), name
            assert browser.evaluate(ACCESS.replace("all('main')", "[1]").replace("'[role=region], ", "'")) == [], name
            pdf = browser.send("Page.printToPDF", preferCSSPageSize=True)["data"]
            assert len(pdf) > 10_000


@pytest.mark.skipif(PATH is None, reason=MISSING)
def test_the_table_sorts_numbers_as_numbers_and_filters(site: Path) -> None:
    rows = "[...document.querySelectorAll('.board tbody tr')].filter((row) => !row.hidden)"
    with Chromium() as browser:
        browser.send("Log.enable")  # what the content security policy refuses, too
        browser.look(400, 900)
        browser.visit((site / "index.html").as_uri())
        assert browser.evaluate("document.documentElement.scrollWidth") <= 400
        heads = browser.evaluate(
            "[...document.querySelectorAll('.board th[scope=col]')].map((head) => head.textContent)"
        )
        place = heads.index("tokens for each parameter")
        head = f"document.querySelectorAll('.board th[scope=col]')[{place}]"
        for order in ("descending", "ascending"):
            browser.evaluate(f"{head}.querySelector('button').click()")
            values = browser.evaluate(f"{rows}.map((row) => row.cells[{place}].dataset.v ?? null)")
            known = [float(value) for value in values if value is not None]
            assert browser.evaluate(f"{head}.getAttribute('aria-sort')") == order
            assert known == sorted(known, reverse=order == "descending") and len(known) > 10
            assert values[len(known) :] == [None] * (len(values) - len(known))  # what is unknown stands last
        browser.evaluate(
            "(() => { const s = document.querySelector('select[name=lab]'); s.value = 'LG';"
            " s.dispatchEvent(new Event('input', { bubbles: true })); })()"
        )
        labs = browser.evaluate(f"{rows}.map((row) => row.dataset.lab)")
        assert set(labs) == {"LG"} and len(labs) > 4
        faults = [event for event in browser.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
        requests = [
            event["params"]["request"]["url"]
            for event in browser.events
            if event["method"] == "Network.requestWillBeSent"
        ]
        assert faults == [] and all(url.startswith("file://") for url in requests)
