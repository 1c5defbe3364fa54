"""One model's weights, in memory and in a folder for the peers, and who generates with them; see generate.py."""

import argparse
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from generators import Generator, Ours, Transformers, Worker, random_model
from open_exaone.base.machine import has_fast_cpu_bfloat16
from open_exaone.checkpoint.folder import load_model, load_tokenizer, resolve_dtype, save_model
from open_exaone.checkpoint.gguf import export_gguf
from open_exaone.pipeline.source import resolve_model
from open_exaone.text.tokenizer import Tokenizer
from shapes import SHAPES

TEXTS = ["How much is 12 + 30? 12 + 30 = 42, so the answer is 42."] * 9  # llama.cpp opens no tokenizer without merges


class Lab:
    """One model's weights in memory and in a folder, and who generates with them."""

    def __init__(self, name: str, args: argparse.Namespace, scratch: Path, dtype: torch.dtype) -> None:
        self.name, self.args, self.folder = name, args, scratch
        self.left_out: dict[str, str] = {}  # peer -> why
        if name in SHAPES:
            self.model = random_model(SHAPES[name], dtype)
            self.tokenizer = Tokenizer.train(TEXTS, 320)
            save_model(scratch, self.model.config, dict(self.model.named_parameters()), self.tokenizer, {})
        else:
            source = resolve_model(Path(name))
            self.model = load_model(source, dtype=dtype).requires_grad_(False).eval()
            self.tokenizer = load_tokenizer(source)
            for file in filter(Path.is_file, source.iterdir()):
                shutil.copy(file, scratch)
        size = self.model.config.num_parameters / 1e6
        self.title = f"{Path(name).resolve().name if name not in SHAPES else name} ({size:,.1f}M)"

    def contestants(self, *, batches: Sequence[int], int8: bool = False) -> list[Generator]:
        """The engine first; peers that are not installed are noted as left out.

        Args:
            batches: how many sequences may decode together; the engine takes the most.
            int8: whether 8-bit weights compete beside the others, instead of being a peer's choice.
        """
        most = max(batches)
        found: list[Generator] = [Ours(self.model, self.tokenizer, num_slots=most)]
        if int8:
            found.append(Ours(self.model, self.tokenizer, int8=True, num_slots=most))
        for peer in self.args.peers:
            if (why := self._why_not(peer)) is not None:
                self.left_out[peer] = why
            elif peer == "plain":
                found.append(Ours(self.model, self.tokenizer, backend="plain", num_slots=most))
            elif peer == "transformers":
                found.append(Transformers(self.folder, batches))
            elif peer == "llama.cpp":
                python, kinds = self.args.llama_python, [["bfloat16"], ["Q8_0"]] if int8 else [["bfloat16", "Q8_0"]]
                found += [Worker(peer, self.folder, python, kind, batches) for kind in kinds]
            elif peer == "vllm":
                kinds = ["bfloat16"] if has_fast_cpu_bfloat16() else ["float32", "bfloat16"]  # each takes long to open
                found.append(Worker(peer, self.folder, self.args.vllm_python, kinds, [most]))
        return found

    def _why_not(self, peer: str) -> str | None:
        """Why a peer cannot run here; prepares what it opens where it can."""
        interpreters = {"llama.cpp": (self.args.llama_python, "llama_cpp"), "vllm": (self.args.vllm_python, "vllm")}
        if peer not in interpreters:
            return None
        python, module = interpreters[peer]
        found = subprocess.run([python, "-c", f"import {module}"], capture_output=True, text=True, check=False)
        if found.returncode:
            last = (found.stderr.strip().splitlines() or [f"exit code {found.returncode}"])[-1]
            return f"{last} ({python}); see the head of this file"
        path = self.folder / "bfloat16.gguf"
        if peer == "llama.cpp" and not path.exists():
            try:
                weights = dict(self.model.named_parameters())
                export_gguf(self.model.config, weights, self.folder, path, dtype=torch.bfloat16)
            except Exception as error:  # whatever it is, the others go on
                return f"{type(error).__name__}: {error}"
        return None


@contextmanager
def opened(name: str, args: argparse.Namespace, dtype: torch.dtype | None = None) -> Iterator[Lab]:
    """A lab whose folder goes with it."""
    with tempfile.TemporaryDirectory(dir=args.scratch) as scratch:
        yield Lab(name, args, Path(scratch), dtype or resolve_dtype(args.dtype))
