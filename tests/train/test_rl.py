"""The rollouts on disk are the buffer: what was sampled and judged is not sampled and judged again."""

import functools
import json
import os
from pathlib import Path

import pytest
import torch

from open_exaone.base.files import read_jsonl
from open_exaone.train.loop import train
from tiny_stages import online_rl, same, start

REWARD = f"{Path(__file__).with_name('thought_length.py')}:score"
SAMPLED_STEPS = list(range(8))


def run(folder, killed_at=None, dtype=torch.bfloat16, **changes):
    """Trains; SIGKILL is played by an exception just behind the rollouts of step `killed_at`.

    Returns:
        the weights, and the steps that were sampled.
    """
    folder.mkdir(exist_ok=True)
    model, optimizer = start(dtype=dtype)
    objective, sampled = online_rl(model, folder, reward=REWARD, **changes), []
    generate, documents = objective.generate, objective._documents

    def counted(prompts, sampling):
        sampled.append(sampling.seed - objective.seed)
        return generate(prompts, sampling)

    def killed(groups):
        if model.version == killed_at:
            raise KeyboardInterrupt
        return documents(groups)

    object.__setattr__(objective, "generate", counted)
    object.__setattr__(objective, "_documents", killed)
    try:
        train(model, optimizer, objective, folder, lambda row: None)
    except KeyboardInterrupt:
        assert killed_at is not None
    return optimizer.masters, sampled


@pytest.fixture(scope="module")
def run_whole(tmp_path_factory):
    """Trains without a cut, once for each type: the folder, the weights, and the steps that were sampled."""

    @functools.cache
    def whole(dtype=torch.bfloat16):
        folder = tmp_path_factory.mktemp("whole")
        return folder, *run(folder, dtype=dtype)

    return whole


@pytest.mark.parametrize("killed_at", [0, 2, 5])
def test_a_step_that_was_sampled_is_learned_from_and_not_sampled_again(killed_at, tmp_path, run_whole):
    whole, wanted, sampled = run_whole()
    assert sampled == SAMPLED_STEPS
    _, before = run(tmp_path / "cut", killed_at)
    masters, after = run(tmp_path / "cut")
    assert before + after == SAMPLED_STEPS
    assert same(masters, wanted)
    names = [sorted((folder / "rollouts").iterdir()) for folder in (whole, tmp_path / "cut")]
    assert [path.read_text() for path in names[0]] == [path.read_text() for path in names[1]]


def test_what_is_read_back_and_not_what_would_be_sampled_is_learned_from(tmp_path, run_whole):
    """Rewards that only the file knows change the weights, when they are sealed as the run's own."""
    from open_exaone.train import buffer

    _, wanted, _ = run_whole()
    keys = []
    real = buffer._seal
    buffer._seal = lambda row, key: (keys.append(key), real(row, key))[1]
    try:
        run(tmp_path / "cut", 0)
    finally:
        buffer._seal = real
    path = tmp_path / "cut" / "rollouts" / "step-000001.jsonl"
    rows = read_jsonl(path)
    for number, row in enumerate(rows):
        del row["sha256"]
        row["reward"] = number / 7
        row["sha256"] = real(row, keys[0])
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    masters, sampled = run(tmp_path / "cut")
    assert sampled == SAMPLED_STEPS[1:] and not same(masters, wanted)


@pytest.mark.parametrize("damage", ["flip", "cut", "line", "seal", "other"])
def test_a_broken_file_is_sampled_again(damage, tmp_path, run_whole):
    _, wanted, _ = run_whole(torch.float32)
    run(tmp_path / "cut", 1, dtype=torch.float32)
    path = tmp_path / "cut" / "rollouts" / "step-000002.jsonl"
    text = path.read_bytes()
    match damage:
        case "flip":
            place = text.index(b'"ids": [') + 9
            path.write_bytes(text[:place] + bytes([text[place] ^ 1]) + text[place + 1 :])
        case "cut":
            path.write_bytes(text[:-40])
        case "line":
            path.write_bytes(text[: text.rindex(b"\n", 0, -1) + 1])
        case "seal":
            path.write_text("".join(json.dumps({"a": row}) + "\n" for row in read_jsonl(path)))
        case "other":
            os.replace(path.with_name("step-000001.jsonl"), path)
    masters, sampled = run(tmp_path / "cut", dtype=torch.float32)
    assert sampled == SAMPLED_STEPS[0 if damage == "other" else 1 :]
    assert same(masters, wanted)


def test_rollouts_of_other_weights_or_of_another_question_are_not_taken(tmp_path):
    run(tmp_path / "run", 0)
    _, sampled = run(tmp_path / "run", 0, group_size=3)
    assert sampled == [0]
    run(tmp_path / "run", 0)
    _, sampled = run(tmp_path / "run", 0)
    assert sampled == []
    _, sampled = run(tmp_path / "run", 0, dtype=torch.float32)
    assert sampled == [0]
