"""TRL's GRPOTrainer for benchmarks/rl.py, in a process and where it needs that an interpreter of its own.

    python benchmarks/rl_worker.py

A line of JSON comes in, a line of JSON goes out: first the settings (those of `rl.Peer.open`), answered once the
trainer is about to begin its first step; then a line for each step, answered by its seconds, those of sampling and
scoring among them, its CPU seconds and its sampled tokens. What fails is answered by {"error": why}. It needs none of
this package, and holds the reward of both sides.

The trainer is TRL's as it comes, `train()` and all; a callback holds it between two steps until the next is wanted.
Three things are set from outside, each in TRL's favour or neutral: no token ends a reply, so that all have one length;
gradient checkpointing is off; and the prompts are a `datasets` table made in memory, whose fingerprint is drawn at
random, as `datasets` would otherwise pickle what it hashes, which fails with some versions of pyarrow. All of that is
done before the first step, and no step's time holds any of it. Transformers' continuous batching, TRL's other way to
sample without vLLM, is left out: on two AVX2 cores it took several times as long.
"""

import json
import os
import resource
import sys
import time
from typing import Any


def score(sample: dict[str, Any]) -> float:
    """The reward of both sides: how often a reply has the letter e."""
    return float((sample["thought"] + sample["answer"]).count("e"))


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def rewards(completions: list[Any], **_: Any) -> list[float]:
    return [score({"thought": "", "answer": completion[0]["content"]}) for completion in completions]


def trainer_of(settings: dict[str, Any]) -> Any:
    import torch
    import transformers
    from datasets import Dataset, disable_progress_bars
    from datasets.fingerprint import generate_random_fingerprint
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    transformers.logging.set_verbosity_error()
    disable_progress_bars()
    torch.set_num_threads(settings["threads"])
    folder, rows = settings["folder"], settings["rows"]
    num_rows = settings["prompts_per_step"] * settings["num_samples"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompts = [{"prompt": [{"role": "user", "content": question}]} for question in settings["questions"]]
    made = Dataset.from_list(prompts)
    made._fingerprint = generate_random_fingerprint()
    # bfloat16 is the trainer's own mixed precision: float32 weights, as AdamW steps on them.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    trainer = GRPOTrainer(
        model,
        rewards,
        GRPOConfig(
            output_dir=f"{folder}/trl",
            bf16=settings["dtype"] == "bfloat16",
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=num_rows // rows,
            num_generations=settings["num_samples"],
            max_completion_length=settings["num_new"],
            generation_kwargs={"eos_token_id": None},
            chat_template_kwargs={"enable_thinking": True},
            shuffle_dataset=False,
            gradient_checkpointing=False,
            loss_type="dapo",
            epsilon_high=0.28,
            learning_rate=settings["learning_rate"],
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            max_grad_norm=1.0,
            max_steps=len(prompts) // settings["prompts_per_step"],
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=made,
        processing_class=tokenizer,
    )
    trainer.eos_token_ids = [-1]
    return trainer


def serve(trainer: Any, answer: Any) -> None:
    """Trains, a step for each line; the process ends where lines do."""
    from transformers import PrinterCallback, TrainerCallback

    moments: dict[str, Any] = {}
    generate = trainer._generate_and_score_completions

    def timed(inputs: Any) -> Any:
        started = time.perf_counter()
        made = generate(inputs)
        moments["sampling"] += time.perf_counter() - started
        moments["tokens"] += int(made["completion_mask"].sum())
        moments["prompt_tokens"] += int(made["prompt_mask"].sum())
        return made

    class Steps(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            answer(moments.pop("answer", {}))
            if not sys.stdin.readline():
                os._exit(0)
            moments.update(sampling=0.0, tokens=0, prompt_tokens=0, cpu=cpu_seconds(), began=time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            moments["answer"] = {
                "seconds": time.perf_counter() - moments["began"],
                "sampling_seconds": moments["sampling"],
                "cpu_seconds": cpu_seconds() - moments["cpu"],
                "num_tokens": moments["tokens"],
                "num_prompt_tokens": moments["prompt_tokens"],
            }

    trainer._generate_and_score_completions = timed
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Steps)
    trainer.train()
    answer(moments["answer"])


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever else is printed goes to the log

    def answer(values: dict[str, Any]) -> None:
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    try:
        serve(trainer_of(json.loads(sys.stdin.readline())), answer)
    except Exception as error:  # the border of a process: the other side prints it
        answer({"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    main()
