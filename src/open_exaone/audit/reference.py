"""What a model says of some texts, read by our decoder and by transformers': one model in memory at a time."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_exaone.audit.part import Trial, free_memory, need_transformers
from open_exaone.base.errors import CheckpointError
from open_exaone.base.files import explain_os_errors, write_atomically
from open_exaone.base.records import Sampling

if TYPE_CHECKING:
    from torch import Tensor

NUM_SCORED = 512  # the last tokens of a text, which are compared
NUM_GREEDY = 64

Texts = Mapping[str, Sequence[int]]
Reading = dict[str, "Tensor"]
"""By TEXT.what: `logprobs` of the scored tokens, `best` ids and their `margin` over the second best at these places;
`greedy` ids that follow the text, and the `greedy_margin` of each."""


def read(trial: Trial, folder: Path, reader: str, dtype: str, texts: Texts, end_ids: Sequence[int]) -> Reading:
    """One reader's reading in one dtype, from its file where an earlier sitting left one.

    Args:
        folder: gets `READER-DTYPE.safetensors`, and for a while what transformers opens.
        reader: "ours" or "transformers".
        end_ids: the tokens that end a greedy text.

    Raises:
        ConfigError: transformers is not installed.
        CheckpointError: the model cannot be opened.
    """
    from safetensors.torch import load_file, save_file

    file = folder / f"{reader}-{dtype}.safetensors"
    if not file.is_file():
        trial.say(f"logits: {reader}, {dtype} …")
        compute = _read_ours if reader == "ours" else _read_transformers
        found = compute(trial, folder, dtype, texts, end_ids)
        free_memory()
        write_atomically(file, lambda path: save_file(found, path))
    return load_file(file)


def _read_ours(trial: Trial, folder: Path, dtype: str, texts: Texts, end_ids: Sequence[int]) -> Reading:
    import torch

    from open_exaone.checkpoint.folder import load_model, load_tokenizer
    from open_exaone.engine.engine import Engine

    model = load_model(trial.folder, dtype=dtype, device=trial.device).eval()
    engine, found = Engine(model, load_tokenizer(trial.folder), num_slots=1), Reading()
    sampling = Sampling(max_new_tokens=NUM_GREEDY, temperature=0.0)
    for name, ids in texts.items():
        with torch.inference_mode():
            ids_1T = torch.tensor([ids], device=trial.device)
            num_scored = min(NUM_SCORED, len(ids) - 1)
            logits_TV = model.head(model.model(ids_1T)[0, -num_scored - 1 : -1])
            found |= _scores(name, logits_TV, ids)
            greedy = list(engine.generate([ids], sampling)[0][0].ids)
            after_1T = torch.tensor([[*ids, *greedy]], device=trial.device)
            found |= _greedy(name, greedy, model.head(model.model(after_1T)[0, -len(greedy) - 1 : -1]))
    return found


def _read_transformers(trial: Trial, folder: Path, dtype: str, texts: Texts, end_ids: Sequence[int]) -> Reading:
    import torch

    found = Reading()
    with _opened(trial, folder, dtype) as model, torch.inference_mode():
        for name, ids in texts.items():
            ids_1T = torch.tensor([ids], device=trial.device)
            num_scored = min(NUM_SCORED, len(ids) - 1)
            logits_TV = model(input_ids=ids_1T, use_cache=False, logits_to_keep=num_scored + 1).logits[0, :-1].float()
            found |= _scores(name, logits_TV, ids)
            output = model.generate(
                ids_1T,
                attention_mask=torch.ones_like(ids_1T),
                do_sample=False,
                max_new_tokens=NUM_GREEDY,
                eos_token_id=list(end_ids),
                pad_token_id=end_ids[0],
                output_logits=True,
                return_dict_in_generate=True,
            )
            greedy = output.sequences[0, len(ids) :].tolist()
            found |= _greedy(name, greedy, torch.cat(output.logits).float())
    return found


def _scores(name: str, logits_TV: "Tensor", ids: Sequence[int]) -> Reading:
    """Of the last T tokens of a text, from the logits that predict them."""
    import torch

    from open_exaone.model.logprobs import token_logprobs

    next_T = torch.tensor(ids[-len(logits_TV) :], device=logits_TV.device)
    best_TX = logits_TV.topk(2)
    scores = {
        "logprobs": token_logprobs(logits_TV, next_T),
        "best": best_TX.indices[:, 0],
        "margin": best_TX.values[:, 0] - best_TX.values[:, 1],
    }
    return {f"{name}.{what}": values.contiguous().cpu() for what, values in scores.items()}


def _greedy(name: str, ids: list[int], logits_TV: "Tensor") -> Reading:
    import torch

    best_TX = logits_TV.topk(2).values
    margin = (best_TX[:, 0] - best_TX[:, 1]).contiguous().cpu()
    return {f"{name}.greedy": torch.tensor(ids), f"{name}.greedy_margin": margin}


@contextmanager
def _opened(trial: Trial, folder: Path, dtype: str) -> Iterator[Any]:
    """transformers' model of the same weights; no code of the checkpoint's is run.

    Raises:
        ConfigError: transformers is not installed.
        CheckpointError: this version of it does not know the model.
    """
    import torch

    transformers = need_transformers()
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(
            _native_folder(trial, folder),
            dtype=getattr(torch, dtype),
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
        )
    except (ValueError, KeyError, TypeError) as error:  # how it says that it does not know an architecture
        raise CheckpointError(
            f"transformers {transformers.__version__} cannot open this model ({str(error)[:200]}): "
            'pip install -U "transformers>=5.0"'
        ) from error
    model.generation_config = transformers.GenerationConfig()  # the checkpoint's own may hold penalties
    yield model.to(trial.device).eval()


def _native_folder(trial: Trial, folder: Path) -> Path:
    """A folder that transformers opens by its own code.

    It has none for the family `exaone` (EXAONE 3.0, 3.5, Deep), whose layers are Llama's under other names: that is
    rewritten as Llama, bit for bit, once.
    """
    if trial.config.family != "exaone":
        return trial.folder
    from open_exaone.checkpoint.convert import convert

    native = folder / "EXAONE-as-llama"  # LG's licences ask that a derived model's name begin so
    if not native.is_dir():
        trial.say("logits: rewriting the weights as Llama for transformers …")
        with explain_os_errors(native):
            convert(trial.folder, native, to="llama")
    return native
