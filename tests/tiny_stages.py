"""Tiny stages of each kind, their documents and the start of a training."""

import random

import torch

from doubles import make_model, make_tokenizer, random_ids
from open_exaone.base.records import Problem
from open_exaone.data.document import Document
from open_exaone.engine.engine import Engine
from open_exaone.learn.config import OptimizerConfig
from open_exaone.learn.optimizer import MasterOptimizer
from open_exaone.rollout.providers.local import LocalProvider
from open_exaone.train.config import PreferenceStage, RlStage, SupervisedStage
from open_exaone.train.preference import Preference
from open_exaone.train.rl import OnlineRl
from open_exaone.train.supervised import Supervised

OPTIMIZER = OptimizerConfig(learning_rate=1e-2, matrix_learning_rate=1e-2)


def some_documents(num=24, seed=0):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 20, (num,), generator=generator).tolist()
    documents = []
    for number, length in enumerate(lengths):
        half = length // 2
        ids = random_ids(length, seed=seed * 1000 + number).tolist()
        documents.append(
            Document(
                ids,
                [False] * half + [True] * (length - half),
                1.0 - 2.0 * (number % 2),
                sampler_logprobs=[-2.0] * (length - half),
            )
        )
    return documents


def shuffled(number, per_step, num_steps, seed=3):
    """Steps that take `per_step` of so many examples each, epoch behind epoch in an order of its own."""
    draw, order = random.Random(seed), []
    while len(order) < per_step * num_steps:
        order += draw.sample(range(number), number)
    return [order[step * per_step : (step + 1) * per_step] for step in range(num_steps)]


def supervised(**changes):
    fields = {"kind": "sft", "name": "sft", "data": "sft", "num_epochs": 3.0, "batch_documents": 8}
    fields |= {"optimizer": OPTIMIZER, "checkpoint_steps": 2, **changes}
    stage, documents = SupervisedStage(**fields), some_documents()
    num_steps = max(1, int(stage.num_epochs * len(documents) / stage.batch_documents))
    return Supervised(stage, documents, shuffled(len(documents), stage.batch_documents, num_steps))


def preference(**changes):
    fields = {"kind": "preference", "name": "p", "data": "p", "num_epochs": 3.0, "batch_pairs": 4, "max_new_tokens": 5}
    fields |= {"optimizer": OPTIMIZER, "checkpoint_steps": 2, **changes}
    pairs = list(zip(some_documents()[::2], some_documents()[1::2], strict=True))
    stage = PreferenceStage(**fields)
    num_steps = max(1, int(stage.num_epochs * len(pairs) / stage.batch_pairs))
    return Preference(stage, pairs, shuffled(len(pairs), stage.batch_pairs, num_steps))


class Watched(LocalProvider):
    """Calls `before` with the requests of each stream, and `after` when it is through."""

    def __init__(self, provider, before=lambda requests: None, after=lambda requests: None):
        vars(self).update(vars(provider))
        self.before, self.after = before, after

    def stream(self, requests):
        self.before(requests)
        yield from super().stream(requests)
        self.after(requests)


def online_rl(model, folder, reference=None, **changes):
    """Rewards that a random model earns: the answer is whatever its digits say."""
    fields = {"kind": "rl", "name": "rl", "data": "rl", "num_steps": 8, "batch_prompts": 4, "group_size": 4}
    fields |= {"max_new_tokens": 6, "optimizer": OPTIMIZER, "checkpoint_steps": 2, "rubric": {"truncated": 0.3}}
    problems = [Problem(f"p/{n}", "t", "en", f"How much is {n} + 1?", str(n + 1), "exact") for n in range(10)]
    provider = LocalProvider(Engine(model, make_tokenizer(), num_slots=8))
    stage = RlStage(**fields | changes)
    order = [place for step in shuffled(len(problems), 1, 1000) for place in step]

    def places(start, number):
        return [order[place % len(order)] for place in range(start, start + number)]

    return OnlineRl(
        stage, problems, [stage.thinking] * len(problems), provider, folder, 3, model, places, reference=reference
    )


def start(config=OPTIMIZER, dtype=torch.float32):
    model = make_model().to(dtype)
    return model, MasterOptimizer(model, dict(model.named_parameters()), config)


def copy_of(optimizer):
    """The master weights as they are now."""
    return {name: master.detach().clone() for name, master in optimizer.masters.items()}


def same(masters, others):
    return masters.keys() == others.keys() and all(torch.equal(masters[name], others[name]) for name in masters)
