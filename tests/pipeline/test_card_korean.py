"""A card in Korean: the same numbers, no English sentence of this package's, and no text that can steer it."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from made_up_run import RECIPE, make_model, make_run
from open_exaone.base.config import read_toml
from open_exaone.base.files import write_json
from open_exaone.checkpoint import licence
from open_exaone.pipeline.card import CardOptions, gather, write_cards
from open_exaone.present import localized
from open_exaone.present.card_facts import Facts
from open_exaone.present.card_markdown import markdown
from open_exaone.present.card_page import page
from open_exaone.present.localized import Texts
from tiny_evaluation import report

KOREAN = Texts("card", "ko")
TEXTS = read_toml(localized.FOLDER / "card.toml")


def evaluation(folder: Path, model: str, **changes: Any) -> Path:
    values = report(["aime_2025", "gpqa_diamond@1024"])
    values["model"] |= {"model": model}
    for task in values["tasks"]:
        task.update({"is_whole": True, **changes})
    write_json(folder / "report.json", values)
    write_json(folder / "evaluation.json", {})
    return folder


@pytest.fixture
def cards(tmp_path: Path) -> list[Facts]:
    """Cards of every origin, which have every sentence that the package writes into card.json."""
    others = {"sources": [{"path": "hub:me/rows"}, {"path": "rows.jsonl"}]}
    read = make_model(tmp_path / "readme")
    (read / "README.md").write_text("---\nlicense: mit\n---\n")
    named = make_model(tmp_path / "named")
    (named / "LICENSE").write_text("terms")
    found = [
        gather(make_run(tmp_path / "mine")),
        gather(make_run(tmp_path / "cut", stages=1)),
        gather(make_run(tmp_path / "rows", data={**RECIPE["data"], "sft": others})),
        *map(gather, (make_model(tmp_path / "EXAONE-4.0-1.2B"), make_model(tmp_path / "some"), read, named)),
        gather(make_model(tmp_path / "chosen"), CardOptions(licence="mit")),
        gather(evaluation(tmp_path / "e", "EXAONE-Deep-2.4B")),
        gather(evaluation(tmp_path / "f", "", is_whole=False, num_problems=None, ci95=None, mode="?")),
    ]
    return found


def body(facts: Facts, texts: Texts) -> str:
    """Both forms of a card, without the block of metadata, which is the hub's."""
    return markdown(facts, texts).partition("\n---\n")[2] + page(facts, texts)


def leaves(texts: Any) -> list[dict[str, str]]:
    return [texts] if "en" in texts else [one for part in texts.values() for one in leaves(part)]


def test_every_text_is_there_in_both_languages_with_the_same_places() -> None:
    files = [path for kind in ("py", "jinja") for path in localized.FOLDER.parent.rglob(f"card*.{kind}")]
    code = "".join(path.read_text(encoding="utf-8") for path in files)
    for both in leaves(TEXTS):
        assert both.keys() == {"en", "ko"}
        assert sorted(re.findall(r"{(\w+)}", both["en"])) == sorted(re.findall(r"{(\w+)}", both["ko"])), both
    assert {key for key in TEXTS if key != "said" and not re.search(rf"[\"']{key}[\"']", code)} == set()


def test_numbers_are_the_same_in_both_languages(cards: list[Facts]) -> None:
    for facts in cards:
        english, korean = (
            Counter(re.findall(r"[\d.,]*\d", markdown(facts, Texts("card", one)).replace("10억", "")))  # billions
            for one in ("en", "ko")
        )
        assert english == korean and english.total() > 20, facts.name


def test_no_english_sentence_of_this_package_is_left(cards: list[Facts]) -> None:
    sentences = [both["en"] for both in leaves(TEXTS) if " " in both["en"] and both["en"] != both["ko"]]
    parts = {part for text in sentences for part in re.split(r"{\w+}", text) if len(part) > 12 and " " in part}
    assert len(parts) > 60
    seen: set[str] = set()
    for facts in cards:
        own = facts.model_copy(update={"notes": () if facts.origin == "measured" else facts.notes})  # those are foreign
        shown = {one: body(own, Texts("card", one)) for one in ("en", "ko")}
        seen |= {part for part in parts if part in shown["en"]}
        assert {part for part in parts if part in shown["ko"]} == set(), facts.name
        assert not re.search(r"[가-힣]", shown["en"].replace("한국어", ""))
    assert len(seen) > 50


def test_every_sentence_of_card_json_is_known(cards: list[Facts]) -> None:
    for facts in cards:
        texts = [facts.licence.why, *(text for data in facts.data for text in (data.what, data.licence))]
        texts += [*(facts.notes if facts.stages else ()), *(one.setting for one in facts.results if one.setting)]
        texts += facts.energy.watts.sources if facts.energy else ()
        assert [text for text in texts if KOREAN.said(text) == text] == []


def test_every_licence_has_its_korean_form() -> None:
    for one in (licence.LG_1_1, licence.LG_1_2, licence.K_EXAONE):
        assert KOREAN.said(one.use) != one.use and KOREAN.said(one.training_data) != one.training_data


def test_foreign_texts_stay_as_they_are_and_are_no_patterns() -> None:
    for text in ("{0.__class__}", "rows of {n} {", "budget {n}", "", "rows of ", "seventy", "generated problems"):
        assert KOREAN.said(text).count("{") == text.count("{")
    assert KOREAN.said("seventy") == "seventy"
    assert KOREAN.said("rows of rows of x") == "rows of x의 행"
    long = "This run is not finished: " + " of its " * 5_000
    assert KOREAN.said(long) == long
    assert KOREAN.said("rows of " * 5_000).endswith("의 행")


def test_the_pages_lead_to_each_other(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine")
    write_cards(run)
    english, korean = ((run / name).read_text(encoding="utf-8") for name in ("card.html", "card.ko.html"))
    assert '<html lang="en">' in english and 'href="card.ko.html"' in english
    assert '<html lang="ko">' in korean and 'href="card.html"' in korean
    assert (run / "card.ko.md").read_text(encoding="utf-8").startswith("---\n")


def test_a_duration_has_korean_units() -> None:
    found = [KOREAN.duration(seconds) for seconds in (5.17, 70.4, 7_260, None)]
    assert found == ["5.2초", "1분 10초", "2시간 01분", "–"]
