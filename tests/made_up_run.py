"""A run's folder with files of every stage, made up in milliseconds; no weights are trained."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from open_exaone.base.config import validate
from open_exaone.base.files import write_json
from open_exaone.model.hf import config_to_hf
from open_exaone.pipeline.config import Recipe
from open_exaone.pipeline.folder import RunFolder

RECIPE: dict[str, Any] = {
    "name": "mine",
    "seed": 7,
    "model": {
        **{"vocab_size": 512, "width": 48, "num_layers": 3, "num_heads": 6, "num_kv_heads": 2, "head_width": 8},
        **{"ffn_width": 80, "max_positions": 256},
    },
    "data": {
        "test": {"sources": [{"families": ["height_order"], "num_problems": 137}]},
        "sft": {"sources": [{"families": ["height_order"], "num_problems": 811, "with_thoughts_only": True}]},
        "rl": {"sources": [{"families": ["height_order"], "num_problems": 223}]},
    },
    "evaluation": {"data": "test", "num_samples": 3, "max_new_tokens": 64},
    "stages": [
        {
            **{"kind": "sft", "name": "sft", "data": "sft", "num_epochs": 1, "batch_documents": 4},
            "optimizer": {"learning_rate": 1e-3},
        },
        {
            **{"kind": "rl", "name": "rl", "data": "rl", "num_steps": 3, "batch_prompts": 4, "group_size": 4},
            **{"max_new_tokens": 64, "optimizer": {"learning_rate": 1e-4}},
        },
    ],
}
STAGES = {  # tokens, seconds, FLOPs, steps, pass@1, interval
    "01-sft": (54_321, 71.3, 1.23e11, 61, 0.4173, [0.3621, 0.4744]),
    "02-rl": (23_459, 33.7, 4.56e10, 3, 0.6257, [0.5683, 0.6797]),
}


def make_run(folder: Path, stages: int = 2, recipe_stages: list[Any] | None = None, **changes: Any) -> Path:
    """Writes the files of the first `stages` stages; returns the folder.

    Args:
        recipe_stages: instead of the recipe's own.
        changes: of the recipe, by key.
    """
    changes |= {"stages": recipe_stages} if recipe_stages else {}
    recipe = validate(Recipe, {**json.loads(json.dumps(RECIPE)), **changes}, "made up")
    run = RunFolder(folder)
    run.claim(recipe)
    write_json(folder / "rendering.json", {"rendered_at": "2026-03-04T05:06:07"})
    write_json(folder / "machine.json", {"device": "cpu", "dtype": "float32"})
    write_json(folder / "prepared.json", {"seconds": 2.9})
    for name, (tokens, seconds, flops, steps, score, bounds) in list(STAGES.items())[:stages]:
        stage = folder / name
        counts = {"train_tokens": tokens, "train_seconds": seconds, "train_steps": steps, "train_flops": flops}
        write_json(stage / "outcome.json", {**counts, "device": "cpu", "peak_rss_bytes": 123_456_789})
        part = {"num_problems": 137, "pass_at_1": score, "ci95": bounds}
        report = {
            **{
                "mode": "reasoning",
                "measured_on": "test",
                "k": 3,
                "greedy": score + 0.0113,
                "cons_at_k": score + 0.0229,
            },
            **{"mean_thought_tokens": 27.64, "truncated_share": 0.0314, **part},
            "per_task": {"height_order": part, "bus_ride": {**part, "num_problems": 59, "pass_at_1": score - 0.1}},
            "per_language": {"en": part, "ko": part},
        }
        write_json(stage / "eval" / "report.json", report)
        sampling = {"temperature": 0.6, "top_p": 0.95, "max_new_tokens": 64}
        about = {"code_version": "0.1.0+abc", "tasks": [{"name": "test", "sampling": sampling}]}
        write_json(stage / "eval" / "evaluation.json", about)
        write_json(stage / "eval" / "outcome.json", {"seconds": 5.17})
        make_model(stage / "model", recipe if recipe.shape else None)
    return folder


def make_model(folder: Path, recipe: Recipe | None = None) -> Path:
    """A model's folder: its config, one small tensor and the files of a tokenizer that nobody opens."""
    recipe = recipe or validate(Recipe, json.loads(json.dumps(RECIPE)), "made up")
    assert recipe.shape is not None
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config_to_hf(recipe.shape, dtype="float32"))
    save_file({"weight": np.arange(6, dtype=np.float32)}, folder / "model.safetensors")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"response_template": {}}')
    (folder / "chat_template.jinja").write_text("<think>")
    return folder
