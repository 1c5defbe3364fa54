"""SFT steps on ragged conversations: our loop against a bare loop over transformers, same data and weights.

    python benchmarks/train_step.py

Counted are tokens that are not padding. The peer pads a batch to its longest row, computes under autocast and steps
AdamW; ours folds rows of like length together, computes in bfloat16 with float32 masters and steps AdamW too.
"""

import tempfile
from pathlib import Path

from open_exaone.base.machine import prepare_process

prepare_process()

import torch
from transformers import AutoModelForCausalLM

from open_exaone.checkpoint.folder import resolve_dtype, save_model
from open_exaone.data.batch import fold, stack
from open_exaone.data.document import worked_documents
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.transformer import LanguageModel
from open_exaone.story.recipe import load_recipe
from open_exaone.tasks.splits import ProblemsConfig, SplitConfig, build_splits
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.config import SupervisedStage
from open_exaone.train.supervised import Supervised
from side_by_side import compare


def main() -> None:
    config = load_recipe().model
    split = SplitConfig(num_problems=256, with_thoughts_only=True)
    problems = build_splits(ProblemsConfig(splits={"sft": split}))["sft"]
    tokenizer = Tokenizer.train((f"{p.question}\n{p.thought}\n{p.reply}" for p in problems), config.vocab_size)
    options = {"thinking": True, "learn_prompts": False, "max_tokens": config.max_positions}
    documents = worked_documents(problems, tokenizer, **options)
    num_tokens = sum(len(document.ids) for document in documents)

    model = LanguageModel(config)
    model.reset_parameters(0)
    with tempfile.TemporaryDirectory() as folder:
        save_model(Path(folder), config, dict(model.named_parameters()), tokenizer, {})
        reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    masters = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    adamw = OptimizerConfig(kind="adamw", learning_rate=1e-4)
    ours = MasterOptimizer(model.to(resolve_dtype()), masters, adamw)
    stage = SupervisedStage(kind="sft", name="sft", split="sft", num_epochs=1, batch_documents=64, optimizer=adamw)
    objective = Supervised(stage, documents, 0)
    theirs = torch.optim.AdamW(reference.parameters(), lr=1e-4, fused=True)

    def our_steps() -> float:
        for step in range(objective.num_steps):
            data = objective.step_data(step)
            for batch in fold(data.documents, stage.micro_batch_tokens):
                objective.loss(model, batch, data.denominator)[0].backward()
                ours.accumulate()
            ours.step(1.0)
        return num_tokens

    def their_steps() -> float:
        for step in range(objective.num_steps):
            batch = stack(objective.step_data(step).documents)
            ids = torch.from_numpy(batch.ids_BT)
            labels = ids.masked_fill(~torch.from_numpy(batch.is_learned_BT), -100)
            with torch.autocast("cpu", torch.bfloat16, enabled=resolve_dtype() is torch.bfloat16):
                loss = reference(ids, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), 1.0)
            theirs.step()
            theirs.zero_grad()
        return num_tokens

    compare("SFT, 64 conversations a step, tokens", {"transformers, bare loop": their_steps, "open-exaone": our_steps})


if __name__ == "__main__":
    main()
