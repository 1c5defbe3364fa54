"""Opening a checkpoint: time and memory, ours beside transformers' `from_pretrained`.

A checkpoint of EXAONE 4.0 1.2B's real shape is made once, with random bfloat16 weights. Each opening then runs in a
process of its own, in turn; imports come before the clock starts, and the page cache is warm for both. "open" ends
when the model is returned, "touched" when every weight has also been read once, and "process" is the whole process,
imports and all. "anonymous" is memory that belongs to the process alone (RssAnon), above what it held before opening.

python benchmarks/load.py [--published EXAONE-4.0-1.2B] [--rounds 5] [--shard-gb 5]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DTYPES = ("bfloat16", "float32")
SPANS = ("open", "touched", "process")


def anonymous_bytes() -> int:
    """Memory of this process that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status has no RssAnon")


def make(folder: Path, name: str, max_shard_bytes: int) -> int:
    """Writes a checkpoint of random weights; returns its bytes."""
    import torch

    from open_exaone.base.files import write_json
    from open_exaone.checkpoint.weights import expected_shapes, save_weights
    from open_exaone.model.hf import config_to_hf
    from open_exaone.model.registry import PUBLISHED

    config = PUBLISHED[name].config
    generator = torch.Generator().manual_seed(0)
    weights = {
        weight: torch.randn(shape, generator=generator).mul_(0.02).bfloat16()
        for weight, shape in expected_shapes(config).items()
    }
    write_json(folder / "config.json", config_to_hf(config, dtype="bfloat16"))
    return save_weights(folder, config, weights, max_shard_bytes=max_shard_bytes)


def open_once(way: str, folder: str, dtype: str) -> dict[str, float]:
    """Opens the checkpoint in this process."""
    import torch

    if way == "Open-EXAONE":
        import open_exaone as ox
        from open_exaone.model import transformer  # noqa: F401

        opener = lambda: ox.load_model(folder, dtype=dtype)  # noqa: E731
        _ = ox.load_model
    else:
        from transformers import AutoModelForCausalLM
        from transformers.models.exaone4 import modeling_exaone4  # noqa: F401

        opener = lambda: AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))  # noqa: E731
    before = anonymous_bytes()
    started = time.perf_counter()
    model = opener()
    opened = time.perf_counter() - started
    checksum = sum(float(weight.detach().amax()) for weight in model.parameters())
    touched = time.perf_counter() - started
    num_bytes = sum(weight.numel() * weight.element_size() for weight in model.parameters())
    anonymous = (anonymous_bytes() - before) / num_bytes
    return {"open": opened, "touched": touched, "anonymous": anonymous, "checksum": checksum}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--published", default="EXAONE-4.0-1.2B")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shard-gb", type=float, default=5.0)
    parser.add_argument("--once", nargs=3, metavar=("WAY", "FOLDER", "DTYPE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.once:
        print(json.dumps(open_once(*arguments.once)))
        return
    with tempfile.TemporaryDirectory() as folder:
        num_bytes = make(Path(folder), arguments.published, int(arguments.shard_gb * 1e9))
        num_files = len(list(Path(folder).glob("*.safetensors")))
        print(f"{arguments.published}'s shape: {num_bytes / 1e9:.2f} GB of bfloat16 in {num_files} files")
        for dtype in DTYPES:
            results: dict[str, list[dict[str, float]]] = {"Open-EXAONE": [], "transformers": []}
            for number in range(arguments.rounds + 1):  # the first warms the page cache
                for way, rows in results.items():
                    command = [sys.executable, __file__, "--once", way, folder, dtype]
                    started = time.perf_counter()
                    ran = subprocess.run(command, check=True, capture_output=True, text=True)
                    seconds = time.perf_counter() - started
                    if number:
                        rows.append({**json.loads(ran.stdout.splitlines()[-1]), "process": seconds})
            print(f"\nopened as {dtype}, {arguments.rounds} rounds in turn")
            for way, rows in results.items():
                figures = "  ".join(_figure(key, [row[key] for row in rows]) for key in SPANS)
                anonymous = max(row["anonymous"] for row in rows)
                print(f"  {way:<14} {figures}  anonymous at most {anonymous:.2f}x of the model's bytes")
            assert len({row["checksum"] for rows in results.values() for row in rows}) == 1, "the weights differ"


def _figure(key: str, seconds: list[float]) -> str:
    return f"{key} {statistics.median(seconds):5.2f} s [{min(seconds):.2f} … {max(seconds):.2f}]"


if __name__ == "__main__":
    main()
