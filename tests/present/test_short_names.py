"""Names, labels and bins that a reader can tell apart."""

import pytest

from open_exaone.present import formatting, plots
from open_exaone.present.evaluation_plots import bins_for, scores
from open_exaone.present.evaluation_tables import model_name


def test_long_names_of_one_family_stay_distinct_and_are_whole_in_the_title() -> None:
    names = [f"DeepSeek-R1-Distill-Qwen-Instruct-{size}" for size in ("1.5B", "32B-2501")]
    assert len({plots.shorten(name, 24) for name in names}) == len({formatting.short_name(name) for name in names}) == 2
    for limit in (5, 16, 24):
        assert len(plots.shorten(names[0], limit)) == limit
    assert plots.shorten("short", 5) == formatting.short_name("short") == "short"
    drawn = scores([plots.Point(name, 0.5, 0.4, 0.6) for name in names])
    assert all(f"<title>{name}</title>" in drawn for name in names)
    assert "<title>" not in scores([plots.Point("<b>", 0.5, 0.4, 0.6)])


@pytest.mark.parametrize(("values", "bins"), [(0, 1), (1, 2), (8, 4), (1000, 20), (4096, 32), (10**6, 32)])
def test_a_histogram_has_as_many_bins_as_its_values_fill(values: int, bins: int) -> None:
    assert bins_for(values) == bins


def test_settings_are_words_with_units() -> None:
    assert (formatting.label("peak_rss_bytes"), formatting.setting("peak_rss_bytes", 919 * 10**6)) == (
        "memory at most",
        "919 MB",
    )
    assert formatting.label("window") == "attention window (tokens)" and formatting.setting("window", None) == "none"
    assert formatting.label("train_seconds") == "train time" and formatting.setting("tied", True) == "yes"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/mine/02-sft/model", "mine/02-sft"),
        ("/tmp/runs/mine/02-sft/model/", "mine/02-sft"),
        ("owner/model", "owner/model"),
        ("out/01-sft", "out/01-sft"),
        ("/data/models/pebble", "pebble"),
    ],
)
def test_the_model_of_a_stage_is_named_by_run_and_stage(path: str, name: str) -> None:
    assert model_name({"model": {"model": path}}) == name
