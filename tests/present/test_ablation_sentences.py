"""What an ablation says of a difference, and of what its arms were trained on."""

from open_exaone.present.ablation import sentences


def found(difference, tokens=(100, 100)):
    arms = [
        {"name": name, "changes": {}, "runs": [], "train_tokens": number}
        for name, number in zip(("a", "b"), tokens, strict=True)
    ]
    arms[1]["difference"] = difference
    about = {"name": "test", "num_problems": 4, "k": 2}
    head = {"seeds": [0, 1], "stages": ["sft"], "stage": "sft", "baseline": "a", "shared": None, "measured": about}
    return {**head, "arms": arms}


def said(value, bounds, seeds_ci95):
    one = {"value": value, "low": bounds[0], "high": bounds[1], "by_seed": [value, value], "sd": 0.1}
    return next(line for line in sentences(found({**one, "seeds_ci95": seeds_ci95})) if line.startswith("b scores"))


def test_each_interval_that_holds_0_is_named():
    same = said(0.0, (-0.1, 0.1), [0.01, 0.2])
    assert same.startswith("b scores the same as a (95% interval over problems")
    assert "over problems holds 0: no difference was shown for other problems" in same and "other seeds" not in same
    more = said(0.1, (0.05, 0.2), [-0.1, 0.3])
    assert "over seeds holds 0: no difference was shown for other seeds" in more and "other problems" not in more
    assert "holds 0" not in said(0.1, (0.05, 0.2), [0.05, 0.3])


def test_arms_that_were_not_trained_on_equally_many_tokens_are_named():
    assert not any("equally many tokens" in line for line in sentences(found(None)))
    lines = sentences(found(None, (100, 300)))
    assert any("equally many tokens (means over seeds): a 100; b 300." in line for line in lines)
