"""Launch files of `exaone plan --write`: read by bash and YAML, and Slurm's run by a stand-in for its commands."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from open_exaone.base.errors import ConfigError
from open_exaone.base.files import read_jsonl
from open_exaone.model.gpus import GPUS
from open_exaone.model.mesh import Mesh
from open_exaone.model.speed import Sampler
from open_exaone.present.launch import ACCELERATORS, KINDS, Launch, launch_name, launch_text, slug

SAMPLED = ["exaone-deep-7.8b", "--gpus", "32", "--gpu", "h200", "--sampler-gpus", "16"]
HOSTILE = "/data/a'b\"c $(touch PWNED) `touch PWNED` ; #{{x}}\\: - é.toml"
JOB = Launch(
    name="nano/exaone-deep",
    recipe="nano/exaone-deep",
    recipe_text=None,
    settings=("parallel.shard=8", 'sft.note="it\'s; $(touch PWNED)"'),
    shared="/shared",
    gpu="h200",
    mesh=Mesh(data=2, shard=8),
    node_gpus=8,
    seconds=100_000.0,
    stop_s=45.5,
)
SERVED = replace(JOB, sampler=Sampler(16, 4, 100), model="owner/name@v1", longest=8192)
FIELDS = {  # of a task, https://docs.skypilot.co/en/latest/reference/yaml-spec.html
    *("name", "workdir", "num_nodes", "resources", "envs", "secrets", "volumes", "file_mounts", "setup", "run"),
    *("service", "pool", "config"),
}
RESOURCES = {"infra", "accelerators", "cpus", "memory", "use_spot", "image_id", "ports", "job_recovery", "autostop"}


def options_of(text: str) -> dict[str, str]:
    """Of the lines that sbatch reads: those before the first command."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            return found
        if line.startswith("#SBATCH"):
            name, value = re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(\S+))?", line).groups()
            found[name] = value
    raise AssertionError("a script of comments alone")


def script_of(kind: str, text: str) -> str:
    """The shell that a file holds."""
    if kind == "slurm":
        return text
    documents = list(yaml.safe_load_all(text))
    return documents[0]["run"] if kind == "skypilot" else documents[1]["data"]["run.sh"]


def arguments_of(kind: str, text: str, **environment: str) -> list[str]:
    """What torchrun would be started with, by running the script's assignments."""
    script = script_of(kind, text)
    kept = [
        line for line in script.splitlines() if line.startswith(("train=(", "train+=(", "shared=", "head=", "job="))
    ]
    done = subprocess.run(
        ["bash", "-euc", "\n".join([*kept, "printf '%s\\0' \"${train[@]}\""])],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": "/home/me", "engine": "e", "port": "1", "is_host": "1", **environment},
    )
    assert not Path("PWNED").exists()
    return done.stdout.split("\0")[:-1]


SLURM = {"SLURM_JOB_ID": "7", "nodes": "a"}
SKY = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_TASK_ID": "sky-1"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_launch_file_starts_the_recipe_on_the_plans_mesh(kind: str, cli, tmp_path: Path) -> None:
    code, printed = cli(
        *["plan", "exaone-deep-7.8b", "--gpus", "16", "--gpu", "h200", "--parallel", "data=2,shard=8"],
        *["--set", "rl.group_size=4", "--write", kind, "--shared", "/mnt/team", "--out", tmp_path],
    )
    path = tmp_path / f"exaone-3-5-7-8b-reasoning.{KINDS[kind].ending}"
    assert code == 0 and f"Start the run: {KINDS[kind].start} {path}" in printed
    text = path.read_text()
    assert subprocess.run(["bash", "-n"], input=script_of(kind, text), text=True, check=False).returncode == 0
    found = arguments_of(kind, text, **SLURM, **SKY)
    run = found[found.index("-m") :]
    assert run[:4] == ["-m", "open_exaone", "run", "exaone-deep-7.8b"]
    assert run[4:6] == ["--out", "/mnt/team/runs/EXAONE-3.5-7.8B-reasoning"]
    assert run[6:] == ["--set", "rl.group_size=4", "--set", "parallel.data=2", "--set", "parallel.shard=8"]
    assert {"--nnodes=2", "--nproc-per-node=8", "--max-restarts=3", "--rdzv-backend=c10d"} <= set(found)


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_names_become_neither_shell_nor_yaml(kind: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    job = replace(JOB, recipe=HOSTILE, recipe_text="name = 'x' # \x7f\u2028\n- {{ y }}: &z !!python/none\n")
    text = launch_text(kind, job)
    found = arguments_of(kind, text, **SLURM, **SKY)
    assert found[-1] == JOB.settings[1] and found[-3] == JOB.settings[0]
    recipe = found[found.index("run") + 1]
    if kind == "slurm":
        assert recipe == HOSTILE
    if kind == "skypilot":
        mounts = yaml.safe_load(text)["file_mounts"]
        assert recipe == "/home/me/recipe.toml" and mounts == {"~/recipe.toml": HOSTILE}
    if kind == "kubernetes":
        config = list(yaml.safe_load_all(text))[1]
        assert recipe == "/launch/recipe.toml" and config["data"]["recipe.toml"] == job.recipe_text


def test_sbatchs_lines_are_those_that_it_reads() -> None:
    found = options_of(launch_text("slurm", SERVED))
    assert found == {
        **{"job-name": "nano-exaone-deep", "nodes": "4", "ntasks-per-node": "1", "gpus-per-node": "8"},
        **{"exclusive": None, "time": "1-19:00:00", "output": "%x-%j.log", "open-mode": "append", "requeue": None},
        "signal": "B:USR1@106",  # 46 seconds to stop, and a minute
    }
    assert options_of(launch_text("slurm", JOB))["nodes"] == "2"


def test_skypilots_file_has_the_fields_of_a_task() -> None:
    task = yaml.safe_load(launch_text("skypilot", JOB))
    assert set(task) <= FIELDS and set(task["resources"]) <= RESOURCES
    assert (task["name"], task["num_nodes"]) == ("nano-exaone-deep", 2)
    assert task["resources"]["accelerators"] == "H200:8" and task["volumes"] == {"/shared": "exaone-shared"}
    assert set(ACCELERATORS) == set(GPUS)


def test_kubernetes_pods_find_the_first_of_them() -> None:
    service, config, job = yaml.safe_load_all(launch_text("kubernetes", JOB))
    assert [one["kind"] for one in (service, config, job)] == ["Service", "ConfigMap", "Job"]
    name, spec, pod = service["metadata"]["name"], job["spec"], job["spec"]["template"]["spec"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["selector"] == {
        "job-name": job["metadata"]["name"]
    }
    assert (spec["completions"], spec["parallelism"], spec["completionMode"]) == (2, 2, "Indexed")
    assert pod["subdomain"] == name and f"head={name}-0.{name}" in config["data"]["run.sh"]
    assert pod["terminationGracePeriodSeconds"] == 106 and spec["activeDeadlineSeconds"] == 43 * 3600
    [container] = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 8}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"shared": "/shared", "launch": "/launch", "memory": "/dev/shm"}
    assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
    amd = list(yaml.safe_load_all(launch_text("kubernetes", replace(JOB, gpu="mi300x"))))[2]
    assert amd["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"] == {"amd.com/gpu": 8}


@pytest.mark.parametrize("kind", KINDS)
def test_no_launch_file_holds_a_key(kind: str, monkeypatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "hf_secret" not in launch_text(kind, JOB)


@pytest.mark.parametrize(("seconds", "limit"), [(0.0, "1-00:00:00"), (60.0, "0-02:00:00"), (1e12, "365-00:00:00")])
def test_the_time_limit_is_the_plans_time_with_a_margin(seconds: float, limit: str) -> None:
    assert options_of(launch_text("slurm", replace(JOB, seconds=seconds)))["time"] == limit


def test_a_recipe_whose_time_is_not_wholly_known_has_a_day(cli, tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    stage = '[[stages]]\nkind = "sft"\nname = "sft"\ndata = "rows"\nnum_epochs = 1\nbatch_documents = 8\n'
    stage += "optimizer = { learning_rate = 1e-3 }\n"
    rows = '[data]\nrows = { sources = [{ path = "rows.jsonl" }] }\n'
    recipe.write_text(RECIPE.replace("[data]\n", rows) + stage)
    code, _ = cli("plan", recipe, "--gpus", "1", "--write", "slurm", "--out", tmp_path)
    assert code == 0 and options_of((tmp_path / "tiny.sbatch").read_text())["time"] == "1-00:00:00"


@pytest.mark.parametrize(("name", "found"), [("A/b_C.d", "a-b-c-d"), ("-x" * 60, "x" + "-x" * 19), ("É", "run")])
def test_a_name_is_one_that_kubernetes_takes(name: str, found: str) -> None:
    assert slug(name) == found and re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?", found)
    assert launch_name("slurm", replace(JOB, name=name)) == f"{found}.sbatch"


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("slurm", {"shared": "runs"}, "--shared runs: must be an absolute path"),
        ("slurm", {"shared": "/a'b"}, "--shared /a'b: must be an absolute path of letters, digits"),
        ("slurm", {"recipe": "/a\nb.toml"}, "the recipe's path '/a\\nb.toml': contains unprintable characters"),
        ("slurm", {"settings": ("a='\x1b'",)}, "contains unprintable characters: write it into the recipe"),
        ("slurm", {"mesh": Mesh(data=12)}, "12 GPUs do not fill whole machines of 8 GPUs: change --gpus"),
        ("skypilot", {"sampler": Sampler(8, 4, 1)}, "only --write slurm starts vLLM servers"),
        ("slurm", {"sampler": Sampler(4, 4, 1)}, "must be multiples of --node-gpus 8"),
        ("slurm", {"sampler": Sampler(24, 3, 1)}, "a vLLM server of 3 GPUs does not divide a machine of 8"),
        ("slurm", {"sampler": Sampler(8, 4, 1), "model": ""}, "the recipe starts from random weights"),
    ],
)
def test_what_a_launch_file_cannot_express_is_refused_with_the_fix(kind: str, changes: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        launch_text(kind, replace(JOB, **changes))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--gpus", "8", "--write", "pbs"], 2, "pbs"),
        (["--gpus", "1", "--gpu", "rtx-4090", "--write", "slurm"], 1, "no mesh fits"),
        (["--gpus", "12", "--write", "slurm", "--node-gpus", "8"], 2, "do not fill whole machines"),
    ],
)
def test_no_file_is_left_where_the_plan_is_refused(arguments, code, message, cli, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    found, text = cli("plan", "exaone-deep-7.8b", *arguments)
    assert found == code and message in text and not list(tmp_path.iterdir())


SRUN = """#!/bin/bash
number=1
while [[ $1 == --* ]]; do
  [[ $1 == --ntasks=* ]] && number=${1#*=}
  shift
done
tasks=()
trap 'kill -TERM "${tasks[@]}"' TERM
for ((task = 0; task < number; task++)); do SLURM_PROCID=$task "$@" & tasks+=($!); done
status=0
for task in "${tasks[@]}"; do
  wait "$task" || status=$?
  while kill -0 "$task" 2>/dev/null; do wait "$task" || status=$?; done
done
exit $status
"""
SCONTROL = """#!/bin/bash
if [[ $1 == requeue ]]; then echo "$2" >"$SHARED/requeued"; else for ((i = 0; i < 4; i++)); do echo localhost; done; fi
"""
RECIPE = """
name = "tiny"
[model]
vocab_size = 300
width = 32
num_layers = 1
num_heads = 2
num_kv_heads = 1
head_width = 16
ffn_width = 64
max_positions = 256
[data]
base = { sources = [{ families = ["height_order"], num_problems = 64 }] }
[[stages]]
kind = "base"
name = "base"
data = "base"
num_epochs = 1
batch_documents = 16
optimizer = { learning_rate = 5e-3 }
"""


@pytest.fixture
def cluster(tmp_path: Path):
    """A shared folder with an environment, stand-ins for Slurm's commands, and the environment of a job."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    activate = tmp_path / "venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "TORCHELASTIC", "RANK"))},
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
        "SHARED": str(tmp_path),
        **{"SLURM_JOB_ID": str(os.getpid()), "SLURM_JOB_NODELIST": "localhost", "SLURM_CPUS_ON_NODE": "1"},
        "GLOO_SOCKET_IFNAME": "lo",
    }


def test_slurms_script_runs_two_machines_of_one_rank(cluster, cli, tmp_path: Path) -> None:
    """The file of a plan, as it is written: two torchruns, which meet by c10d."""
    recipe = tmp_path / "my recipe.toml"
    recipe.write_text(RECIPE)
    code, _ = cli(
        *["plan", recipe, "--gpus", "2", "--node-gpus", "1", "--gpu", "h200", "--parallel", "data=2"],
        *["--write", "slurm", "--shared", tmp_path, "--out", tmp_path],
    )
    script = tmp_path / "tiny.sbatch"
    assert code == 0
    job = subprocess.Popen(
        ["bash", script], env=cluster, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    try:
        printed = job.communicate(timeout=600)[0].decode()
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"the job did not end: {(late.output or b'').decode()}")
    finally:
        with_all(job, signal.SIGKILL)
    assert job.returncode == 0, printed
    rows = read_jsonl(tmp_path / "runs" / "tiny" / "01-base" / "metrics.jsonl")
    assert len(rows) == 4 and (tmp_path / "runs" / "tiny" / "01-base" / "model" / "model.safetensors").exists()
    assert not (tmp_path / "requeued").exists()


def with_all(job: subprocess.Popen, number: int) -> None:
    """Sends a signal to a job and to all that it has started."""
    try:
        os.killpg(job.pid, number)
    except ProcessLookupError:
        return
    job.wait()


STAND_IN = {  # of the trainer and of vLLM
    "torchrun": """#!/bin/bash
trap 'sleep 0.5; echo saved >"$SHARED/state"; exit 130' TERM
printf '%s\\n' "$@" >"$SHARED/arguments"
echo started >"$SHARED/started-$SLURM_PROCID"
while [[ ! -e $SHARED/end ]]; do sleep 0.05; done
""",
    "vllm": """#!/bin/bash
echo "$@ $VLLM_SERVER_DEV_MODE" >>"$SHARED/served"
while :; do sleep 0.05; done
""",
    "curl": "#!/bin/bash\nexit 0\n",
}


@pytest.fixture
def job(cluster, tmp_path: Path):
    """A job that trains on two machines and samples on two, once its trainer has begun."""
    for name, text in STAND_IN.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "venv" / "bin" / "activate").write_text("")
    script = tmp_path / "job.sbatch"
    script.write_text(launch_text("slurm", replace(SERVED, shared=str(tmp_path))))
    started = subprocess.Popen(["bash", script], env=cluster, start_new_session=True)
    try:
        for place in range(2):
            wait_for(tmp_path / f"started-{place}")
        yield started
    finally:
        with_all(started, signal.SIGKILL)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not appear"
        time.sleep(0.02)


def test_vllm_servers_take_the_last_machines_and_end_with_the_trainer(job, tmp_path: Path) -> None:
    served = sorted((tmp_path / "served").read_text().splitlines())
    port = 20000 + job_id(tmp_path) % 10000
    assert len(served) == 4 and all(line.endswith(" 1") for line in served)  # two of four GPUs on each of two machines
    wanted = "serve owner/name --revision v1 --host localhost --port {} --tensor-parallel-size 4 --max-model-len 8192 1"
    assert served == sorted(2 * [wanted.format(port + 1), wanted.format(port + 2)])
    engine = (tmp_path / "arguments").read_text().splitlines()[-1]
    assert engine.startswith("engine={ kind = 'vllm_server', url = 'http://localhost:")
    assert engine.count("http://localhost:") == 4 and f"weights_folder = '{tmp_path}/weights-" in engine
    (tmp_path / "end").touch()
    assert job.wait(timeout=120) == 0 and not (tmp_path / "requeued").exists()


def job_id(folder: Path) -> int:
    return int(re.findall(r"weights-(\d+)", (folder / "arguments").read_text())[0])


@pytest.mark.parametrize(("number", "is_requeued"), [(signal.SIGUSR1, True), (signal.SIGTERM, False)])
def test_a_job_near_its_time_limit_saves_its_state_and_is_queued_again(
    job, tmp_path: Path, number: int, is_requeued: bool
) -> None:
    """A job that is cancelled is not."""
    job.send_signal(number)
    assert job.wait(timeout=120) == 130 and (tmp_path / "state").read_text() == "saved\n"
    assert (tmp_path / "requeued").exists() == is_requeued
