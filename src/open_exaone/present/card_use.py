"""How to run a model: in this package, transformers, vLLM and llama.cpp."""

from collections.abc import Callable
from typing import Any

from open_exaone.present.card_facts import Facts

TRANSFORMERS = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER")
messages = [{"role": "user", "content": "What is 3 + 4?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=TRUE_MODE)
reply = model.generate(**inputs, max_new_tokens=TOKENS)
print(tokenizer.decode(reply[0, inputs["input_ids"].shape[1]:]))
"""

LLAMA_CPP = """exaone convert FOLDER model.gguf --to gguf
llama-server -m model.gguf --jinja --reasoning-format auto
"""


def use_section(facts: Facts, section: Callable[..., Any], code: Callable[..., Any]) -> Any:
    """The section of a card; FOLDER stands for the model's folder, or its name on the hub."""
    if not facts.files:
        return section("How to run it", [])
    place = (
        f"FOLDER is {facts.model_folder}/ in the run's folder" if facts.model_folder else "FOLDER is the model's folder"
    )
    limit = str(min(1024, int(facts.shape["max_positions"].value) // 2)) if "max_positions" in facts.shape else "1024"
    mode = "True, enable_thinking=True" if facts.thinks else "True"
    python = TRANSFORMERS.replace("TRUE_MODE", mode).replace("TOKENS", limit)
    flags = " --reasoning-parser hf --enable-auto-tool-choice --tool-call-parser hf" if facts.has_grammar else ""
    return section(
        "How to run it",
        [
            f"{place}, or its name on the hub once it is there.",
            "Open-EXAONE:",
            code("sh", "exaone chat FOLDER\nexaone serve FOLDER\nexaone eval FOLDER --suite NAME\n"),
            "transformers:",
            code("python", python),
            "vLLM:",
            code("sh", f"vllm serve FOLDER{flags}\n"),
            "llama.cpp:",
            code(
                "sh",
                LLAMA_CPP,
            ),
        ],
    )
