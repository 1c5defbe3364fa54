"""Those who train the same weights on the same documents: this package, loops over transformers, and trainers.

Each is a function that goes over its documents once, `steps` optimizer steps, and says how long that took and how many
tokens it computed. All keep float32 weights and step AdamW on them with clipping at 1; all compute in bfloat16: ours
with bfloat16 weights, the peers under autocast. The peers share one set of weights and one optimizer's state between
them, so that a run of all of them fits in memory.
"""

import copy
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from open_exaone.checkpoint.folder import resolve_dtype
from open_exaone.data.batch import pack, singles
from open_exaone.data.document import Document
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.config import ModelConfig
from open_exaone.model.hf import config_to_hf
from open_exaone.model.packed import rounded
from open_exaone.model.transformer import LanguageModel
from open_exaone.train.config import SupervisedStage
from open_exaone.train.supervised import Supervised

RATE = 1e-4
ADAMW = OptimizerConfig(kind="adamw", learning_rate=RATE)


class Pass(NamedTuple):
    """Once over the documents."""

    seconds: float
    num_computed: int  # tokens, padding counted
    num_steps: int  # of the optimizer


Contestant = Callable[[], Pass]


def split(documents: Sequence[Document], steps: int) -> list[list[Document]]:
    """The documents of each optimizer step, in their order."""
    size = -(-len(documents) // steps)
    return [list(documents[first : first + size]) for first in range(0, len(documents), size)]


class Ours:
    """This package: the model, its optimizer, and steps through `data.batch` and the supervised objective."""

    def __init__(self, config: ModelConfig, device: torch.device, seed: int = 0, **stage: Any) -> None:
        model = LanguageModel(config)
        model.reset_parameters(seed)
        masters = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        self.model = model.to(device, resolve_dtype(device=device))
        if device.type == "cuda":
            self.model.compile_layers()
        self.optimizer = MasterOptimizer(self.model, masters, ADAMW)
        settings = {"kind": "sft", "name": "sft", "data": "sft", "num_epochs": 1, "optimizer": ADAMW}
        self.objective = Supervised(SupervisedStage(**settings, **stage), [], [])

    def step(self, documents: Sequence[Document]) -> int:
        """One optimizer step; returns the tokens computed."""
        denominator = sum(int(np.count_nonzero(document.loss_mask[1:])) for document in documents)
        num_computed = 0
        for batch in pack(singles(documents), self.objective.config.micro_batch_tokens):
            self.objective.loss(self.model, batch, denominator)[0].backward()
            self.optimizer.accumulate()
            num_computed += rounded(batch.num_tokens, self.model.device)
        self.optimizer.step(1.0)
        return num_computed

    def loss(self, documents: Sequence[Document]) -> float:
        """The mean loss of a learned token, nothing moved."""
        with torch.no_grad():
            (batch,) = pack(singles(documents), sum(len(document.ids) for document in documents))
            return float(self.objective.loss(self.model, batch, float(batch.loss_mask_T.sum()))[0])

    def contestant(self, documents: Sequence[Document], steps: int) -> Contestant:
        """Goes over the documents."""

        def run() -> Pass:
            started = time.perf_counter()
            computed = [self.step(part) for part in split(documents, steps)]
            synchronize(self.model.device)
            return Pass(time.perf_counter() - started, sum(computed), len(computed))

        return run


class Peers:
    """A transformers model and AdamW, for loops and trainers over them."""

    def __init__(self, config: ModelConfig, device: torch.device, seed: int = 0) -> None:
        from transformers import AutoConfig, AutoModelForCausalLM

        quiet()
        source = LanguageModel(config)
        source.reset_parameters(seed)
        values = AutoConfig.for_model(**config_to_hf(config, dtype="float32"))
        model = AutoModelForCausalLM.from_config(values, dtype=torch.float32, attn_implementation="sdpa")
        found = model.load_state_dict(source.state_dict(), strict=False)
        assert not found.unexpected_keys and set(found.missing_keys) <= {"lm_head.weight"}, found
        model.tie_weights()
        self.device = device
        self.compiled: Any = None
        self.folder = tempfile.TemporaryDirectory()  # trainers want one; it goes with the peers
        self.model = model.to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE, betas=(0.9, 0.95), fused=True)

    def loss(self, documents: Sequence[Document]) -> float:
        """The mean loss of a learned token, nothing moved; documents one by one, as no two see each other so."""
        total, num_learned = 0.0, 0
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16):
            for ids, labels in padded(documents, 1, by_length=False):
                count = int((labels[:, 1:] != -100).sum())
                total += count * float(self.model(ids.to(self.device), labels=labels.to(self.device)).loss)
                num_learned += count
        return total / num_learned

    def model_copy(self) -> nn.Module:
        """The modules again over the same weights: trainers and compilers change modules for good."""
        return copy.deepcopy(self.model, {id(weight): weight for weight in self.model.parameters()})

    def loop(
        self, documents: Sequence[Document], steps: int, rows: int, *, by_length: bool = False, compiled: bool = False
    ) -> Contestant:
        """The loop that people write: `rows` documents padded to the longest, forward, backward; a step; again.

        Args:
            rows: documents in one forward pass.
            by_length: sort a step's documents first, which few loops do.
            compiled: by torch.compile, with dynamic shapes.
        """
        if compiled and self.compiled is None:
            self.compiled = torch.compile(self.model_copy(), dynamic=True)
        model: Any = self.compiled if compiled else self.model

        def run() -> Pass:
            started, num_computed = time.perf_counter(), 0
            parts = split(documents, steps)
            for part in parts:
                batches = list(padded(part, rows, by_length))
                for ids, labels in batches:
                    with torch.autocast(self.device.type, torch.bfloat16):
                        loss = model(ids.to(self.device), labels=labels.to(self.device), use_cache=False).loss
                    (loss / len(batches)).backward()
                    num_computed += ids.numel()
                nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
            synchronize(self.device)
            return Pass(time.perf_counter() - started, num_computed, len(parts))

        return run

    def trainer(self, documents: Sequence[Document], steps: int, rows: int, **settings: Any) -> Contestant:
        """Hugging Face's Trainer in bf16, padding each `rows` documents to the longest."""
        from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

        accumulated = max(1, -(-len(documents) // (steps * rows)))
        values = self.settings(rows, accumulated) | settings
        trainer = Trainer(
            self.model_copy(),
            TrainingArguments(**values),
            data_collator=DataCollatorForSeq2Seq(tokenizer(), padding=True),
            train_dataset=dataset(documents),
            optimizers=(self.optimizer, constant(self.optimizer)),
        )
        return timed_trainer(trainer)

    def trl(
        self, documents: Sequence[Document], steps: int, rows: int, *, packing: str | None = None, **settings: Any
    ) -> Contestant:
        """TRL's SFTTrainer in bf16.

        Args:
            packing: "bfd" fills rows of the longest document's length with whole documents that do not see each other;
                "wrapped" cuts the stream of all documents into such rows, whose documents do. Without it, rows are
                padded.
        """
        from trl import SFTConfig, SFTTrainer

        longest = max(len(document.ids) for document in documents)
        num_rows = -(-sum(len(document.ids) for document in documents) // longest) if packing else len(documents)
        accumulated = max(1, -(-num_rows // (steps * rows)))
        values = self.settings(rows, accumulated) | settings
        if packing:
            values |= {"packing": True, "packing_strategy": packing}
        trainer = SFTTrainer(
            self.model_copy(),
            SFTConfig(max_length=None if settings.get("padding_free") else longest, **values),
            train_dataset=dataset(documents),
            processing_class=tokenizer(),
            optimizers=(self.optimizer, constant(self.optimizer)),
        )
        num_kept = sum(len(ids) for ids in trainer.train_dataset["input_ids"])
        assert num_kept == sum(len(document.ids) for document in documents), "TRL has cut documents"
        return timed_trainer(trainer)

    def settings(self, rows: int, accumulated: int) -> dict[str, Any]:
        """What every trainer is given: no logging, no saving, documents in their order, one pass."""
        return {
            "output_dir": self.folder.name,
            "per_device_train_batch_size": rows,
            "gradient_accumulation_steps": accumulated,
            "num_train_epochs": 1,
            "max_grad_norm": 1.0,
            "bf16": True,
            "gradient_checkpointing": False,
            "train_sampling_strategy": "sequential",
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "use_cpu": self.device.type == "cpu",
            "dataloader_pin_memory": self.device.type != "cpu",
        }


def padded(documents: Sequence[Document], rows: int, by_length: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """ids_BT and labels_BT, padded at the end; a causal model needs no mask for that."""
    ordered = sorted(documents, key=lambda document: len(document.ids)) if by_length else documents
    for first in range(0, len(ordered), rows):
        part = ordered[first : first + rows]
        shape = (len(part), max(len(document.ids) for document in part))
        ids, labels = torch.zeros(shape, dtype=torch.long), torch.full(shape, -100)
        for row, document in enumerate(part):
            values, length = torch.from_numpy(np.asarray(document.ids, dtype=np.int64)), len(document.ids)
            ids[row, :length] = values
            labels[row, :length] = values.masked_fill(~torch.from_numpy(np.asarray(document.loss_mask)), -100)
        yield ids, labels


def timed_trainer(trainer: Any) -> Contestant:
    """Times `train()` from its first batch to its last step: what it sets up before is not counted."""
    from transformers import PrinterCallback, TrainerCallback

    moments: dict[str, float] = {}

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            moments["begin"] = time.perf_counter()

        def on_train_end(self, *_: Any, **__: Any) -> None:
            moments["end"] = time.perf_counter()

    counts: list[int] = []
    collate = trainer.data_collator

    def counting(examples: list[dict[str, Any]]) -> Any:
        batch = collate(examples)
        counts.append(batch["input_ids"].numel())
        return batch

    trainer.data_collator = counting
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Clock)

    def run() -> Pass:
        counts.clear()
        trainer.train()
        return Pass(moments["end"] - moments["begin"], sum(counts), trainer.state.global_step)

    return run


def dataset(documents: Sequence[Document]) -> Any:
    """The documents as a tokenized data set; labels are -100 where nothing is learned."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    rows = []
    for document in documents:
        ids = np.asarray(document.ids)
        labels = np.where(np.asarray(document.loss_mask), ids, -100)
        rows.append({"input_ids": ids.tolist(), "labels": labels.tolist()})
    return Dataset.from_list(rows)


def tokenizer() -> Any:
    """A tokenizer for its padding alone."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>")
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(words), pad_token="<pad>", eos_token="<eos>")


def constant(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


def quiet() -> None:
    """Keeps the peers' progress bars and hints out of the tables."""
    import transformers

    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()


def synchronize(device: torch.device) -> None:
    """Waits for what was asked of the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
