"""Whether a model's chat markers were ever trained: LoRA leaves the embedding matrix as it is."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor
from torch.nn.functional import cosine_similarity

from open_exaone.checkpoint.folder import load_weights
from open_exaone.text.tokenizer import Tokenizer

EMBEDDINGS = "model.embed_tokens.weight"
_NORMS = (0.2, 5.0)  # of the median row's: trained markers lie well within, rows that were only reserved often do not
_SAME = 0.999  # cosine


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
