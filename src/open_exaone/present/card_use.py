"""How to run a model: in this package, transformers, vLLM and llama.cpp."""

from open_exaone.present.card_facts import Facts
from open_exaone.present.card_parts import Code, Section
from open_exaone.present.localized import Texts

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


def use_section(facts: Facts, texts: Texts) -> Section:
    """The section of a card; FOLDER stands for the model's folder, or its name on the hub."""
    if not facts.files:
        return Section(texts("run"), [])
    place = texts("folder_in_run", folder=facts.model_folder) if facts.model_folder else texts("folder_of_model")
    limit = str(min(1024, int(facts.shape["max_positions"].value) // 2)) if "max_positions" in facts.shape else "1024"
    mode = "True, enable_thinking=True" if facts.thinks else "True"
    python = TRANSFORMERS.replace("TRUE_MODE", mode).replace("TOKENS", limit)
    flags = " --reasoning-parser hf --enable-auto-tool-choice --tool-call-parser hf" if facts.has_grammar else ""
    programs = (
        ("Open-EXAONE:", Code("sh", "exaone chat FOLDER\nexaone serve FOLDER\nexaone eval FOLDER --suite NAME\n")),
        ("transformers:", Code("python", python)),
        ("vLLM:", Code("sh", f"vllm serve FOLDER{flags}\n")),
        ("llama.cpp:", Code("sh", LLAMA_CPP)),
    )
    return Section(texts("run"), [place, *(block for program in programs for block in program)])
