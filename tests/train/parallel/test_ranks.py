"""Several ranks give what one process gives; what goes wrong on one ends all, with its reason."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import pytest
import torch
from torch._C._distributed_c10d import PrefixStore, TCPStore

import tiny_ranks
from open_exaone.base.errors import ConfigError, RankError, RunFolderError
from open_exaone.base.files import read_jsonl
from open_exaone.data.batch import num_computed, shares, singles
from open_exaone.data.document import Document
from open_exaone.pipeline import launch, together
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.run import run_recipe
from open_exaone.train.parallel import join
from open_exaone.train.parallel.config import ParallelConfig
from open_exaone.train.parallel.place import Place, own_place
from open_exaone.train.parallel.world import ALONE, World
from open_exaone.train.state import checkpoints
from ranked_runs import ENVIRONMENT, RECIPE, children, wait_for
from tiny_ranks import assert_alike
from tiny_stages import some_documents


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What one process found, and what each of two ranks did; and their folder."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, tiny_ranks.__file__, "2", str(launch._free_port()), str(folder)]
    ran = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=1800, check=False)
    assert ran.returncode == 0, ran.stderr
    rows = [json.loads((folder / f"{name}.json").read_text()) for name in ("alone", "found-0", "found-1")]
    return folder, *rows


@pytest.mark.parametrize(
    "name", ["supervised", "muon", "few", "bfloat16", "lora", "simper", "dpo", "kto", "grpo", "agapo"]
)
def test_two_ranks_give_what_one_process_gives(found, name):
    """Losses, norms before the clip, token counts, advantages (by the loss) and every metric; rollouts are replayed."""
    _, alone, first, _ = found
    assert len(alone[name]) == len(first[name]) >= 4
    assert_alike(alone[name], first[name])
    least = {"simper": 0.01, "kto": 0.9}.get(name, 1.0)  # above 1, it is clipped
    assert max(row["gradient_norm"] for row in alone[name]) > least


@pytest.mark.parametrize("name", [name for name in tiny_ranks.SHARDED if name != "drawn"])
def test_two_ranks_that_keep_a_part_of_the_model_each_give_what_one_process_gives(found, name):
    """Steps in which a rank has nothing to compute, Muon's whole matrices, frozen weights and samples among them."""
    _, alone, first, _ = found
    number = len(first["sharded"][name])
    assert number == (12 if name == "supervised" else 3)
    assert_alike(alone[name][:number], first["sharded"][name])


def test_the_engines_of_a_sharded_model_sample_from_its_weights_as_they_are(found):
    """Each rank's copy follows: what it reports of a token is what the trainer finds, after updates too."""
    _, _, first, _ = found
    for rows in (first["drawn"], first["sharded"]["drawn"]):
        assert [row["max_logprob_gap"] < 1e-4 for row in rows] == [True] * 3
        assert all(row["gradient_norm"] > 0 for row in rows)


def test_the_union_of_samples_is_what_one_process_draws(found):
    """Each rank is asked for its own prompts, and the file holds all samples."""
    folder, _, *ranks = found
    for name in ("grpo", "agapo"):
        asked = [rank["asked"][name][0] for rank in ranks]
        assert asked[0] == asked[1] > 0
        files = sorted((folder / f"{name}-together" / "rollouts").glob("*.jsonl"))
        assert sum(len(read_jsonl(path)) for path in files) == sum(asked)
        for path in files:
            one, two = (
                [{k: v for k, v in row.items() if k not in ("logprobs", "sha256")} for row in read_jsonl(place)]
                for place in (folder / f"{name}-alone" / "rollouts" / path.name, path)
            )
            assert one == two


def test_each_rank_judges_what_it_has_sampled(found):
    """Verdicts, terms and rewards are those of one process by the test above."""
    _, _, *ranks = found
    assert len(ranks[0]["judged"]) == len(ranks[1]["judged"]) > 8
    assert all(min(ranks[0]["judged"][place], ranks[1]["judged"][place]) >= 1 for place in range(8))


def test_only_the_first_rank_writes(found):
    folder, *_ = found
    assert len(read_jsonl(folder / "supervised-together" / "metrics.jsonl")) == 51
    names = [path.name for path in checkpoints(folder / "supervised-together" / "checkpoints")]
    assert names == ["step-000050", "step-000051"]


@pytest.mark.parametrize(("is_sharded", "number"), [(False, 51), (True, 23)])
def test_a_state_of_one_process_goes_on_in_two(found, is_sharded, number):
    _, alone, first, _ = found
    rows, wanted = (first["sharded"] if is_sharded else first)["resumed"], alone["supervised"][:number]
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in wanted], abs=1e-5)
    assert [row["tokens"] for row in rows] == [row["tokens"] for row in wanted]


@pytest.mark.parametrize(
    ("place", "states"),
    [("cut-together", ["step-000010", "step-000020"]), ("supervised-sharded", ["step-000010"])],
)
def test_a_state_of_two_ranks_goes_on_in_one_process(found, place, states):
    """And in four, as the file names no number of ranks."""
    folder, alone, *_ = found
    place = folder / place
    assert [path.name for path in checkpoints(place / "checkpoints")] == states
    rows = tiny_ranks.supervised_on(ALONE, place)
    assert [row["loss"] for row in rows] == pytest.approx([row["loss"] for row in alone["supervised"]], abs=1e-5)
    assert [row["tokens"] for row in rows] == [row["tokens"] for row in alone["supervised"]]


def test_a_signal_that_one_rank_hears_ends_all_with_the_state_saved(found):
    folder, _, *ranks = found
    for one, name in ((ranks, "interrupted"), ([rank["sharded"] for rank in ranks], "interrupted-sharded")):
        assert [rank["interrupted"] for rank in one] == ["Interrupted: ", "Interrupted: "]
        assert [path.name for path in checkpoints(folder / name / "checkpoints")] == ["step-000003"]


def test_an_error_of_one_rank_reaches_the_others(found):
    _, _, first, second = found
    assert first["failures"]["gather"] == first["failures"]["after"] == "RankError: rank 1: no such file"
    assert second["failures"]["gather"] == second["failures"]["after"] == "ConfigError: no such file"
    assert first["failures"]["lead"] == "ConfigError: no such recipe"
    assert second["failures"]["lead"] == "RankError: rank 0: no such recipe"
    assert all(r["failures"]["alike"].startswith("RankError: rank 1 has weights that differ") for r in (first, second))


def test_what_is_exchanged_is_the_same_on_all_ranks(found):
    _, _, *ranks = found
    assert [rank["exchanged"] for rank in ranks] == [[[3.0, 1.0], {"from": 0}, True, [0, 1]]] * 2


@pytest.mark.parametrize("number", [1, 2, 3, 40])
def test_shares_hold_every_unit_once_and_about_as_many_tokens(number):
    units = singles(some_documents(30))
    split = shares(units, number)
    assert len(split) == number
    assert sorted(place for places in split for place in places) == list(range(30))
    sizes = [num_computed([units[place] for place in places]) for places in split]
    assert max(sizes) - min(sizes) <= 20  # the longest document
    if number == 40:
        assert sizes.count(0) == 10


def test_shares_keep_a_group_together_where_it_is_no_more_than_a_share():
    prompts = [[n] * 9 for n in range(1, 5)]
    groups = [Document([*prompt, 7, n], [False] * 10 + [True]) for prompt in prompts for n in range(4)]
    split = shares(singles(groups), 2)
    assert [Counter(groups[place].ids[0] for place in places).most_common() for places in split] == [
        [(1, 4), (3, 4)],
        [(2, 4), (4, 4)],
    ]
    assert all(len(places) == 2 for places in shares(singles(groups[:4]), 2))  # one group for two ranks


PLACE = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


def test_the_environment_says_which_rank_a_process_is():
    assert own_place({}) is None
    assert own_place({"WORLD_SIZE": "1", "RANK": "0"}) is None
    assert own_place(PLACE) == Place(1, 2, 1, "10.0.0.1", 29500)
    torchrun = {"LOCAL_RANK": "0", "TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "3"}
    assert own_place({**PLACE, **torchrun}) == Place(1, 2, 0, "10.0.0.1", 29500, True, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MASTER_ADDR": ""}, "WORLD_SIZE = 2.*MASTER_ADDR is missing.*torchrun"),
        ({"RANK": "two"}, "RANK = 'two' in the environment: must be a whole number"),
        ({"RANK": "2"}, "RANK = 2 in the environment: must lie below WORLD_SIZE = 2"),
    ],
)
def test_an_environment_that_is_wrong_is_named(changes, message):
    with pytest.raises(ConfigError, match=message):
        own_place({**PLACE, **changes})


def test_ranks_that_run_something_else_are_named():
    port = launch._free_port()
    errors = {}

    def meet(rank, hello):
        try:
            store = TCPStore("127.0.0.1", port, 2, rank == 0, wait_for_workers=False)
            join._compare(Place(rank, 2, rank, "127.0.0.1", port), PrefixStore("x", store), 600, hello)
            kept.append(store)
        except ConfigError as error:
            kept.append(store)
            errors[rank] = str(error)

    kept = []  # the first rank answers until the other has asked
    hellos = [{"open-exaone": "0.1.0", "recipe": "aa"}, {"open-exaone": "0.1.0", "recipe": "bb"}]
    threads = [threading.Thread(target=meet, args=(rank, hello)) for rank, hello in enumerate(hellos)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "rank 1 on" in errors[0] and "recipe is bb there and aa here" in errors[0]
    assert "rank 0 on" in errors[1] and "recipe is aa there and bb here" in errors[1]
    assert "same version, recipe and flags" in errors[0]


def test_a_rank_that_does_not_come_and_an_address_that_does_not_answer_are_named():
    port = launch._free_port()
    config = ParallelConfig(start_timeout_s=1)
    with pytest.raises(
        RankError, match=f"rank 1 cannot reach rank 0 at 127.0.0.1:{port}.*start_timeout_s = 1 .*MASTER_ADDR"
    ):
        join.join(Place(1, 2, 1, "127.0.0.1", port), config, {}, torch.device("cpu"))
    with pytest.raises(RankError, match=f"rank 1 of 2 has not connected to 127.0.0.1:{port} within"):
        join.join(Place(0, 2, 0, "127.0.0.1", port), config, {}, torch.device("cpu"))


class Elsewhere(World):
    """The second of two ranks, whose folder the first one does not write to."""

    rank, size = 1, 2

    def lead(self, act):
        return "a token"


def test_a_folder_that_is_not_shared_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(together, "FOLDER_S", 0.1)
    with pytest.raises(RunFolderError, match="is not the folder that rank 0 uses: the file .ranks"):
        together.check_shared(Elsewhere(), tmp_path)
    (tmp_path / together.TOKEN_FILE).write_text("a token")
    together.check_shared(Elsewhere(), tmp_path)


@pytest.mark.parametrize(
    ("parallel", "size", "message"),
    [
        ({"shard": 3}, 4, "parallel.shard = 3: does not divide .* the run has 4 ranks: start it with --ranks 3"),
        ({"shard": 2}, 1, "parallel.shard = 2: does not divide .* the run has one process.*--ranks 2"),
        (
            {"data": 4, "shard": 2},
            4,
            "parallel.data = 4 x parallel.shard = 2: needs 8 ranks, and the run has 4 ranks.*--ranks 8",
        ),
        (
            {"data": 2},
            1,
            "parallel.data = 2 x parallel.shard = 1: needs 2 ranks, and the run has one process.*--ranks 2",
        ),
    ],
)
def test_a_mesh_that_does_not_fit_the_ranks_is_refused(tmp_path, parallel, size, message):
    changes = [f"parallel.{name}={value}" for name, value in parallel.items()]
    (tmp_path / "tiny.toml").write_text(RECIPE.format(checkpoint_steps=4))
    recipe = load_recipe(str(tmp_path / "tiny.toml"), changes)
    with pytest.raises(ConfigError, match=message):
        together._check(recipe, size)
    together._check(recipe.model_copy(update={"parallel": ParallelConfig()}), size)


@pytest.mark.parametrize(
    ("changes", "size", "message"),
    [
        (["base.optimizer.gradient_dtype='bfloat16'", "parallel.shard=2"], 2, "base.optimizer.gradient_dtype.*leave"),
        (["engine.kind='vllm'"], 2, "several ranks cannot share one vLLM"),
    ],
)
def test_what_ranks_cannot_do_is_refused(tmp_path, changes, size, message):
    (tmp_path / "tiny.toml").write_text(RECIPE.format(checkpoint_steps=4))
    with pytest.raises(ConfigError, match=message):
        together._check(load_recipe(str(tmp_path / "tiny.toml"), changes), size)


def exaone(folder, *arguments):
    command = [sys.executable, "-m", "open_exaone", "run", "tiny.toml", "--dtype", "float32", *arguments]
    return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.skipif(sys.platform != "linux", reason="finds the ranks in /proc")
def test_a_killed_rank_ends_the_run_which_goes_on_in_one_process(tmp_path):
    """Whichever it is: nothing hangs, the rank is named, and the end is that of a run that nothing happened to."""
    (tmp_path / "tiny.toml").write_text(RECIPE.format(checkpoint_steps=4))
    metrics = tmp_path / "cut" / "01-base" / "metrics.jsonl"
    run = exaone(tmp_path, "--ranks", "2", "--out", "cut")
    wait_for(lambda: metrics.is_file() and metrics.read_text().count("\n") >= 9, run)
    victim = random.randrange(2)
    os.kill(children(run)[victim], signal.SIGKILL)
    started = time.monotonic()
    _, errors = run.communicate(timeout=600)
    assert run.returncode == 1
    assert f"rank {victim} was killed by SIGKILL" in errors.decode() and "last saved state" in errors.decode()
    assert time.monotonic() - started < launch.GRACE_S + 300  # it is killed then; the rest is a busy machine
    assert checkpoints(tmp_path / "cut" / "01-base" / "checkpoints")
    recipe = load_recipe(str(tmp_path / "tiny.toml"))
    for name in ("whole", "cut"):
        run_recipe(recipe, tmp_path / name, lambda event: None, Machine(dtype="float32"))
    losses = [
        [row["loss"] for row in read_jsonl(tmp_path / name / "01-base" / "metrics.jsonl")] for name in ("whole", "cut")
    ]
    assert len(losses[0]) == 40
    assert losses[1] == pytest.approx(losses[0], abs=1e-5)
