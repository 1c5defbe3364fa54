"""The policy losses and the advantages in NumPy, completion by completion, from the papers' equations; and a game."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import torch

from open_exaone.learn.policy_parts import Sampled


@dataclass
class Completion:
    """One sampled completion: the log-probabilities of its tokens, and its advantage."""

    now: np.ndarray
    old: np.ndarray
    reference: np.ndarray
    sampler: np.ndarray
    advantage: float


def some_completions(lengths, seed=0, spread=0.4):
    draw = np.random.default_rng(seed)
    completions = []
    for length in lengths:
        now = -draw.exponential(1.0, length)
        others = [now + spread * draw.normal(size=length) for _ in range(3)]
        completions.append(Completion(now, *others, float(draw.normal())))
    return completions


def sampled_of(completions, **changes):
    """The same as the losses take it; `logprobs_M` wants its gradient."""

    def joined(name):
        return torch.from_numpy(np.concatenate([getattr(completion, name) for completion in completions]))

    lengths = torch.tensor([len(completion.now) for completion in completions])
    advantages_D = torch.tensor([completion.advantage for completion in completions], dtype=torch.float64)
    fields = {
        "logprobs_M": joined("now").requires_grad_(),
        "old_logprobs_M": joined("old"),
        "advantages_M": advantages_D.repeat_interleave(lengths),
        "documents_M": torch.arange(len(completions)).repeat_interleave(lengths),
        "reference_M": joined("reference"),
        "sampler_M": joined("sampler"),
    }
    return Sampled(**fields | changes)


def loss_by_hand(completions, settings, max_new_tokens, moved=None):
    """The loss of all completions together.

    Args:
        moved: log-probabilities in the place of `now` wherever the loss is differentiated; what is held fixed there
            (weights of CISPO, AGAPO's divergence) stays that of `now`.
    """
    moved = [completion.now for completion in completions] if moved is None else moved
    tokens = [_tokens(completion, x, settings) for completion, x in zip(completions, moved, strict=True)]
    match settings.aggregate:
        case "tokens":
            return np.concatenate(tokens).mean()
        case "sequences":
            return np.mean([values.mean() for values in tokens])
        case "sums":
            return np.mean([values.sum() for values in tokens])
        case "constant":
            return np.mean([values.sum() / max_new_tokens for values in tokens])


def _tokens(completion, x, settings):
    now, kl = completion.now, settings.kl
    advantage = completion.advantage
    if kl is not None and kl.estimator == "sequence":
        advantage -= kl.beta * (now - completion.reference).sum()
    values = _policy_tokens(completion, x, advantage, settings)
    if settings.correction is not None and settings.correction.kind != "off":
        weights, most = np.exp(completion.old - completion.sampler), settings.correction.max_ratio
        if settings.correction.kind == "truncate":
            values = values * np.minimum(weights, most)
        else:
            values = np.where((weights > most) | (weights < 1 / most), 0.0, weights * values)
    if kl is not None and kl.estimator != "sequence":
        r = x - completion.reference
        values = values + kl.beta * {"k1": r, "k2": 0.5 * r**2, "k3": np.exp(-r) - 1 + r}[kl.estimator]
    return values


def _policy_tokens(completion, x, advantage, settings):
    now, old = completion.now, completion.old
    match settings.name:
        case "agapo":
            return -advantage * x
        case "cispo":
            return -np.minimum(np.exp(now - old), settings.max_ratio) * advantage * x
        case "agapo_off_policy":
            return -np.minimum(np.exp(now - completion.sampler), settings.max_ratio) * advantage * x
        case "gspo":
            ratio = np.full(len(x), np.exp((x - old).sum() / len(x)))
        case "rloo":
            ratio = np.full(len(x), np.exp(x.sum() - old.sum()))
        case _:
            ratio = np.exp(x - old)
    low, high = 1 - settings.clip_low, 1 + settings.clip_high
    return -np.minimum(ratio * advantage, np.clip(ratio, low, high) * advantage)


def advantages_by_hand(rewards, is_valid, is_correct, settings):
    """The advantages of a batch of groups, and which groups stay: lists of lists, and a list."""
    groups = [_known(*rows) for rows in zip(rewards, is_valid, is_correct, strict=True)]
    kind = settings.advantage
    if kind == "agapo":
        return _agapo_by_hand(groups, settings)
    centred = [{i: r - _mean(group) if _differ(group) else 0.0 for i, (r, _) in group.items()} for group, _ in groups]
    values = [value for group in centred for value in group.values()]
    batch_std = math.sqrt(sum(value**2 for value in values) / len(values)) if values else 0.0
    rows = []
    for (group, size), parts in zip(groups, centred, strict=True):
        number = len(group)
        std = math.sqrt(sum(part**2 for part in parts.values()) / max(1, number))
        scale = {
            "group_relative": 1 / (std + 1e-4) if settings.divide_by_std else 1.0,
            "leave_one_out": number / max(1, number - 1),
            "batch_normalised": 1 / (batch_std + 1e-4),
        }[kind]
        rows.append([parts.get(i, 0.0) * scale for i in range(size)])
    return rows, [any(row) for row in rows]


def _agapo_by_hand(groups, settings):
    constant, rows, kept = getattr(settings, "all_wrong_advantage", "drop"), [], []
    for group, _ in groups:
        corrects = [correct for _, correct in group.values()]
        is_all_wrong = len(group) > 1 and not any(corrects)
        stays = len(group) > 1 and not all(corrects) and (_differ(group) or is_all_wrong)
        kept.append(len(group) > 1 and _differ(group) if constant == "drop" else stays)
        total = sum(r for r, _ in group.values())
        loo = {i: r - (total - r) / (len(group) - 1) if _differ(group) else 0.0 for i, (r, _) in group.items()}
        rows.append((loo, is_all_wrong))
    values = [value for (loo, _), stays in zip(rows, kept, strict=True) if stays for value in loo.values()]
    mean = sum(values) / len(values) if values else 0.0
    std = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values)) if values else 0.0
    advantages = []
    for (loo, is_all_wrong), stays, (_, size) in zip(rows, kept, groups, strict=True):
        row = [0.0] * size
        for i, value in loo.items() if stays else ():
            row[i] = ((value - mean) / std if std else 0.0) + (constant if is_all_wrong and constant != "drop" else 0.0)
        advantages.append(row)
    return advantages, kept


def _known(rewards, is_valid, is_correct):
    members = {i: (r, c) for i, (r, v, c) in enumerate(zip(rewards, is_valid, is_correct, strict=True)) if v}
    return members, len(rewards)


def _mean(group):
    return sum(r for r, _ in group.values()) / len(group)


def _differ(group):
    rewards = [r for r, _ in group.values()]
    return len(rewards) > 1 and max(rewards) > min(rewards)


END = 2


class Game:
    """A policy over three tokens, one of them the end, and all the sequences that it may give."""

    def __init__(self, length, seed=0):
        draw = np.random.default_rng(seed)
        prefixes = [p for n in range(length) for p in itertools.product((0, 1), repeat=n)]
        self.rows = {prefix: row for row, prefix in enumerate(prefixes)}
        self.sequences = [(*p, END) for p in prefixes] + list(itertools.product((0, 1), repeat=length))
        self.logits = torch.from_numpy(draw.normal(size=(len(prefixes), 3))).requires_grad_()
        self.reference = torch.from_numpy(draw.normal(size=(len(prefixes), 3)))
        self.rewards = dict(zip(self.sequences, itertools.cycle([0.0, 1.0, 0.5])))

    def logprobs(self, sequence, logits):
        """Of each token, [L]."""
        table = logits.log_softmax(-1)
        return torch.stack([table[self.rows[sequence[:t]], token] for t, token in enumerate(sequence)])

    def probability(self, *sequences):
        with torch.no_grad():
            return math.prod(float(self.logprobs(sequence, self.logits).sum().exp()) for sequence in sequences)

    def score(self, sequence):
        """∇ log p(sequence) by hand, [S, 3]: at each token's context, the token less its distribution."""
        probabilities = np.exp(self.logits.detach().numpy())
        probabilities /= probabilities.sum(1, keepdims=True)
        gradient = np.zeros_like(probabilities)
        for t, token in enumerate(sequence):
            row = self.rows[sequence[:t]]
            gradient[row] -= probabilities[row]
            gradient[row, token] += 1
        return gradient

    def sampled(self, sequences, advantages):
        logprobs = [self.logprobs(sequence, self.logits) for sequence in sequences]
        lengths = torch.tensor([len(sequence) for sequence in sequences])
        logprobs_M = torch.cat(logprobs)
        return Sampled(
            logprobs_M,
            logprobs_M.detach(),
            torch.tensor(advantages, dtype=torch.float64).repeat_interleave(lengths),
            torch.arange(len(sequences)).repeat_interleave(lengths),
            torch.cat([self.logprobs(sequence, self.reference) for sequence in sequences]),
        )
