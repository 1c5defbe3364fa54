"""Whether a model knows its chat markers: LoRA leaves the embedding matrix as it is, and cannot teach them.

Markers that were only reserved show in their embedding rows: zeros, copies of one another, or of another size than all
others. Rows at random initial values look like any others; there, the model itself is asked whether it ends a reply.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn.functional import cosine_similarity

from open_exaone.checkpoint.folder import load_weights
from open_exaone.data.document import Document
from open_exaone.data.store import Prepared
from open_exaone.model.transformer import LanguageModel
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.train.forward import document_logprobs

EMBEDDINGS = "model.embed_tokens.weight"
KNOWN = 0.1  # the probability of the end marker behind a reply; a model that learned it gives some replies nearly 1
_READ, _PROBED = 64, 8  # the first examples, and the shortest of them
_NORMS = (0.2, 5.0)  # of the median row's: trained markers lie well within, rows that were only reserved often do not
_SAME = 0.999  # cosine


def marker_warning(
    stage: str, start: Path, tokenizer: Tokenizer, model: LanguageModel, prepared: Prepared, max_tokens: int
) -> str | None:
    """What to tell who trains LoRA on a model that does not know the chat format; None if it does.

    Args:
        stage: its name.
        start: the model's folder.
        model: as the stage begins; of one that ranks split, only the rows in `start` are looked at.
        max_tokens: of a micro-batch.
    """
    why = "LoRA does not train embeddings: the model may not learn the chat format"
    fix = f"leave {stage}.lora out to train all weights"
    if names := untrained_markers(start, tokenizer):
        return f"{stage}.lora: the embeddings of {', '.join(names)} look untrained, and {why}; {fix}"
    found = None if model.sharing is not None else end_probability(model, _replies(prepared), tokenizer, max_tokens)
    if found is None or found[1] >= KNOWN:
        return None
    name, probability = found
    return (
        f"{stage}.lora: where the replies of this data end, the model gives {name} a probability of at most "
        f"{probability:.1%}: it seems to be untrained, and {why}; {fix}, or begin from a model that was trained to chat"
    )


def end_probability(
    model: LanguageModel, documents: Iterable[Document], tokenizer: Tokenizer, max_tokens: int
) -> tuple[str, float] | None:
    """The chat format's end marker, and the highest probability that it gets behind a reply of some short documents.

    None where no document ends in a special token.
    """
    names = {number: token.content for number, token in tokenizer.backend.get_added_tokens_decoder().items()}
    ends = [end for document in islice(documents, _READ) if (end := _end_of(document, names)) is not None]
    shortest = sorted(ends, key=lambda document: len(document.ids))[:_PROBED]
    if not shortest:
        return None
    logprobs = [float(found[0]) for found in document_logprobs(model, shortest, max_tokens)]
    best = int(np.argmax(logprobs))
    return names[int(shortest[best].ids[-1])], math.exp(logprobs[best])


def _end_of(document: Document, names: dict[int, str]) -> Document | None:
    """A document up to its last learned token, which alone is learned, if that is a special token."""
    learned = np.flatnonzero(np.asarray(document.loss_mask))
    if not len(learned) or int(document.ids[learned[-1]]) not in names:
        return None
    length = int(learned[-1]) + 1
    return Document(document.ids[:length], np.arange(length) == length - 1)


def _replies(prepared: Prepared) -> Iterable[Document]:
    """Documents with a reply; of pairs the first of the two, of problems none."""
    if prepared.kind == "preference":
        return (unit[0] for unit in prepared.units)
    return prepared.documents if prepared.kind == "sft" else ()


def untrained_markers(folder: Path, tokenizer: Tokenizer) -> list[str]:
    """The chat format's special tokens whose embedding rows look untrained, as a model's folder stores them."""
    names = {number: token.content for number, token in tokenizer.backend.get_added_tokens_decoder().items()}
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ids = sorted(set(tokenizer.render(chat)) & names.keys())
    return [names[number] for number in untrained_rows(load_weights(folder)[EMBEDDINGS], ids)]


def untrained_rows(embeddings_VD: Tensor, ids: Sequence[int]) -> list[int]:
    """Those of `ids` whose rows equal another's of them, or whose norms are far from the median row's."""
    norms_V = embeddings_VD.float().norm(dim=1)
    low, high = (float(norms_V.median()) * share for share in _NORMS)
    rows = {number: embeddings_VD[number].float() for number in ids if number < len(embeddings_VD)}

    def is_untrained(number: int) -> bool:
        others = [row for other, row in rows.items() if other != number]
        is_copied = any(float(cosine_similarity(rows[number], row, dim=0)) > _SAME for row in others)
        return is_copied or not low <= float(norms_V[number]) <= high

    return [number for number in rows if is_untrained(number)]
