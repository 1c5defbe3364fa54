"""How to run a model: in this package, transformers, vLLM and llama.cpp."""

import re
from collections.abc import Iterator

from open_exaone.present.card_facts import Facts
from open_exaone.present.card_parts import Block, Code, Section
from open_exaone.present.localized import Texts

TRANSFORMERS = """from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("FOLDER")
model = AutoModelForCausalLM.from_pretrained("FOLDER")
messages = [{"role": "user", "content": "What is 3 + 4?"}]
inputs = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=TRUE_MODE)
reply = model.generate(**inputs, max_new_tokens=TOKENS)
print(tokenizer.decode(reply[0, inputs["input_ids"].shape[1]:]))
"""

OWN = """exaone chat FOLDER
exaone serve FOLDER
exaone eval EVALUATED
"""
LLAMA_CPP = """exaone convert FOLDER model.gguf --to gguf
llama-server -m model.gguf --jinja --reasoning-format auto
"""
AS_LLAMA = "../EXAONE-llama"  # LG's licences ask for such a name
LOCAL = "local/"  # how the name of a model begins that has none on the hub
_PLAIN = re.compile(r"(?!-)[A-Za-z0-9_./-]{1,200}")  # a path that needs no quotes, in a shell as in Python


def use_section(facts: Facts, texts: Texts) -> Section:
    """The section of a card: commands that run as they stand, in the folder that the card is of or from the hub."""
    if not facts.files:
        return Section(texts("run"), [])
    folder = facts.model_folder if _PLAIN.fullmatch(facts.model_folder) else "."
    is_local = facts.id.startswith(LOCAL)
    key = ("run_in_folder" if folder == "." else "run_in_run") if is_local else "run_from_hub"
    has_own = is_local and any(result.stage and result.hub is None for result in facts.results)
    names = {"FOLDER": folder if is_local else facts.id}
    names["EVALUATED"] = "." if has_own else f"{names['FOLDER']} --suite exaone-deep"
    blocks: list[Block] = [texts(key, name=names["FOLDER"])]
    for title, code in _programs(facts, texts):
        text = code.text
        for word, name in names.items():
            text = text.replace(word, name)
        blocks += [title, Code(code.language, text)]
    return Section(texts("run"), blocks)


def _programs(facts: Facts, texts: Texts) -> Iterator[tuple[str, Code]]:
    """Of each program its title and what to type."""
    yield "Open-EXAONE:", Code("sh", OWN)
    place = "FOLDER"
    if facts.family == "exaone":
        place = AS_LLAMA
        yield texts("as_llama"), Code("sh", f"exaone convert FOLDER {AS_LLAMA} --to llama\n")
    limit = str(min(1024, int(facts.shape["max_positions"].value) // 2)) if "max_positions" in facts.shape else "1024"
    mode = "True, enable_thinking=True" if facts.thinks else "True"
    python = TRANSFORMERS.replace("TRUE_MODE", mode).replace("TOKENS", limit).replace("FOLDER", place)
    yield "transformers:", Code("python", python)
    flags = " --reasoning-parser hf --enable-auto-tool-choice --tool-call-parser hf" if facts.has_grammar else ""
    yield "vLLM:", Code("sh", f"vllm serve {place}{flags}\n")
    yield "llama.cpp:", Code("sh", LLAMA_CPP)
