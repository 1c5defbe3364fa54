"""Sections and page of a plan: the numbers of the plan, in one unit, and pictures that stand alone."""

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from open_exaone.model.cluster import Cluster, plan_meshes
from open_exaone.model.gpus import GPUS
from open_exaone.model.registry import PUBLISHED, REPORTED
from open_exaone.pipeline.plan import plan_recipe, shape_of
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.present.cluster import Money, brief, cache_section, reported_section, sections, short
from open_exaone.present.plan_page import memory_plot, plan_record, render

CLUSTER = Cluster(GPUS["h100"], 16)
RECIPE = load_recipe("exaone-deep-2.4b")
PLANS = plan_meshes(plan_recipe(RECIPE, shape_of(RECIPE)), CLUSTER)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *[(0.0004, "0.4 ms"), (0.0638, "63.8 ms"), (1.5, "1.5 s"), (110, "110 s"), (340, "5.7 min"), (7199, "120 min")],
        *[(7200, "2.0 h"), (150_000, "41.7 h"), (423_000, "4.9 days"), (1e9, "11,574 days")],
    ],
)
def test_a_time_is_in_one_unit(seconds: float, text: str) -> None:
    assert brief(seconds) == text


def test_a_quantity_has_no_exponent() -> None:
    assert [short(value) for value in (0.00361, 0.5, 3.42, 57.06, 1240.4)] == ["0.00361", "0.5", "3.4", "57.1", "1,240"]


def test_parts_of_a_memory_add_up_to_its_total() -> None:
    """But for the smaller one of activations and cache."""
    found = {section.title: section for section in sections(PLANS, CLUSTER, Money(700, None), None)}
    [memory] = [section for title, section in found.items() if title.startswith("Memory of each GPU")]
    for column in range(1, len(memory.titles)):
        parts = {row[0]: 0.0 if row[column] == "–" else float(row[column]) for row in memory.rows}
        total = parts.pop("total")
        smaller = min(parts.get("activations", 0.0), parts.get("KV cache", 0.0))
        assert total == pytest.approx(sum(parts.values()) - smaller, abs=0.5)


def test_energy_and_cost_are_gpu_hours_times_power_and_price() -> None:
    for money in (Money(700, 2.5), Money(350, 5)):
        [times] = [one for one in sections(PLANS, CLUSTER, money, None) if one.title == "Time, energy and cost"]
        together = dict(zip(times.titles, times.rows[-1], strict=True))
        hours = float(together["GPU-hours"].replace(",", ""))
        assert hours == pytest.approx(PLANS[0].seconds * 16 / 3600, abs=0.6)
        assert float(together["kWh"].replace(",", "")) == pytest.approx(hours * money.power_w / 1000, rel=0.01)
        assert float(together["cost"].replace(",", "")) == pytest.approx(hours * money.price, rel=0.01)


@pytest.mark.parametrize("reported", REPORTED, ids=lambda one: one.model)
def test_what_was_inferred_is_marked(reported) -> None:
    section = reported_section(reported)
    assert len(section.rows) == (1 if reported.fine_tuning_flops is None else 3)
    assert [note for note in section.notes if "inferred" in note] == list(section.notes)


def test_a_cache_of_local_layers_stops_growing_at_the_window() -> None:
    section = cache_section(PUBLISHED["EXAONE-4.0-32B"].config)
    shares = {row[0]: row[3] for row in section.rows}
    assert shares["4,096"] == "100.0%" and shares["131,072"] == "27.3%"  # (16 + 48 / 32) / 64
    assert "16 global layers, 48 local ones with a window of 4,096" in section.notes[0]


def test_the_page_stands_alone_and_is_the_same_each_time() -> None:
    found = list(sections(PLANS, CLUSTER, Money(700, None), REPORTED[2]))
    pages = [render("<b>name</b>", "lead", found, PLANS, CLUSTER) for _ in range(2)]
    assert pages[0] == pages[1] and "<b>" not in pages[0] and "&lt;b&gt;name" in pages[0]
    assert "<script" not in pages[0] and "src=" not in pages[0] and "url(" not in pages[0]
    nothing = Cluster(replace(GPUS["h100"], memory_bytes=1e9), 16)
    assert "No mesh fits" in render("x", "lead", found, PLANS, nothing)


def test_a_bar_is_as_long_as_its_memory() -> None:
    svg = memory_plot(PLANS[:3], CLUSTER)
    found = re.findall(r'class="area of-\d" x="([\d.]+)" y="11.0" width="([\d.]+)"', svg)
    pieces = [(float(x), float(width)) for x, width in found]
    for (x, width), (following, _) in pairwise(pieces):
        assert following == pytest.approx(x + width, abs=0.2)  # one behind the other
    limit = float(re.findall(r'class="line" d="M([\d.]+) ', svg)[0]) - 118
    share = PLANS[0].fullest.memory.total / CLUSTER.gpu.memory_bytes
    assert sum(width for _, width in pieces) == pytest.approx(limit * share, rel=0.01)


def test_the_record_holds_every_mesh_and_the_parts_of_the_first() -> None:
    record = plan_record("x", PLANS, CLUSTER, Money(700, 2.0), REPORTED[2])
    assert len(record["meshes"]) == len(PLANS) and record["fits"]
    for stage in record["stages"]:
        assert sum(stage["flops_by_part"].values()) == pytest.approx(stage["flops"])
        assert stage["cost"] == pytest.approx(2 * stage["gpu_hours"])
    assert record["reported"]["pretraining"]["computed"] == pytest.approx(9.36e22, rel=0.01)
