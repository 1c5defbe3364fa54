"""The definitions at the head of `engine/sampling.py` once more: one row, numpy, the whole vocabulary sorted.

`SAMPLINGS` are settings to try.
"""

import numpy as np
from hypothesis import strategies as st

from open_exaone.base.records import Sampling

FLOAT = np.float32

FIELDS = {
    "temperature": st.sampled_from([0.0, 1e-6, 1e-3, 0.6, 1.0, 1.7, 100.0]),
    "top_p": st.sampled_from([1e-30, 0.1, 0.5, 0.95, 1 - 1e-9, 1.0]),
    "top_k": st.sampled_from([None, 1, 2, 7, 300, 5000]),
    "min_p": st.sampled_from([0.0, 1e-6, 0.05, 0.9, 1.0]),
    "presence_penalty": st.sampled_from([0.0, -0.7, 1.5]),
    "frequency_penalty": st.sampled_from([0.0, -0.3, 0.8]),
    "repetition_penalty": st.sampled_from([1.0, 0.8, 1.3]),
    "logit_bias": st.sampled_from([(), {0: 100.0}, {3: -100.0, 5: 4.5}]),
}
SAMPLINGS = st.builds(Sampling, st.just(8), **FIELDS)


def changed(logits_V, sampling: Sampling, prompt=(), reply=()):
    """Steps 1 to 3."""
    x = np.array(logits_V, FLOAT)
    for token, bias in sampling.logit_bias:
        x[token] += FLOAT(bias)
    r = FLOAT(sampling.repetition_penalty)
    for token in {*prompt, *reply}:
        x[token] = x[token] / r if x[token] > 0 else x[token] * r
    for token in set(reply):
        x[token] -= FLOAT(sampling.frequency_penalty) * FLOAT(list(reply).count(token))
        x[token] -= FLOAT(sampling.presence_penalty)
    return x


def kept_weights(logits_V, sampling: Sampling, prompt=(), reply=()):
    """Steps 1 to 9: the weight of each id, float64, 0 where it was left out; greedy keeps the best alone."""
    x = changed(logits_V, sampling, prompt, reply)
    if sampling.temperature < 1e-5:
        return np.eye(len(x))[x.argmax()]
    d = x / FLOAT(sampling.temperature)
    d -= d.max()
    kept = d >= FLOAT(np.log(sampling.min_p)) if sampling.min_p else np.full(len(d), True)
    if sampling.top_k is not None and sampling.top_k < kept.sum():
        kept &= d >= np.sort(d[kept])[-sampling.top_k]
    weights = np.where(kept, np.exp(d), 0).astype(np.float64)
    if sampling.top_p < 1:
        order = np.argsort(-np.where(kept, d, -np.inf), kind="stable")
        before = np.cumsum(weights[order]) - weights[order]
        weights[order[before >= sampling.top_p * weights.sum()]] = 0
    return weights


def drawn(logits_V, sampling: Sampling, uniform, prompt=(), reply=()):
    """Step 10: the id, and its sampling log-probability."""
    weights = kept_weights(logits_V, sampling, prompt, reply)
    token = int(np.searchsorted(np.cumsum(weights), np.float64(FLOAT(uniform)) * weights.sum(), side="right"))
    return token, float(np.log(weights[token] / weights.sum()))


def logprobs(logits_TV, sampling: Sampling, prompt, reply):
    """How likely each token of a reply was, given those before it."""
    weights = [kept_weights(row, sampling, prompt, reply[:place]) for place, row in enumerate(logits_TV)]
    chosen = [row[token] / row.sum() for row, token in zip(weights, reply, strict=True)]
    return np.log(np.array(chosen)).astype(FLOAT)
