"""What each command does, once its arguments are parsed."""

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from open_exaone.base.config import read_toml, validate
from open_exaone.base.errors import ConfigError
from open_exaone.base.output import say
from open_exaone.base.records import Problem
from open_exaone.base.terminal import Console
from open_exaone.pipeline.folder import RunFolder, is_run, resolve_model
from open_exaone.pipeline.measure import Machine
from open_exaone.pipeline.recipe import load_recipe
from open_exaone.pipeline.report import greedy_rows
from open_exaone.verify.settings import JudgeSettings


def story(
    recipe: str, out: Path | None, overrides: list[str], quick: bool, device: str, dtype: str, unsafe: bool
) -> int:
    from open_exaone.checkpoint.folder import resolve_device
    from open_exaone.pipeline.run import run_story
    from open_exaone.present.card import write_card
    from open_exaone.present.report import write_report
    from open_exaone.present.terminal import Progress, closing_table_rich

    resolved = load_recipe(recipe, overrides, quick=quick)
    resolve_device(device)
    out = out or Path("runs") / (resolved.name.replace("/", "-") + ("-quick" if quick else ""))
    console = Console()
    console.print(f"{resolved.name}: {resolved.model.num_parameters:,} parameters, into {out}")
    with Progress(console) as progress:

        def tell(event: dict[str, Any]) -> None:
            progress(event)
            if "measured" in event:
                _tell_measured(progress, event["stage"], event["measured"])
                for told in event["showcase"]:
                    _show_replies(console, told)

        report = run_story(resolved, out, tell, Machine(device, dtype, unsafe))
    page, card = write_report(out), write_card(out)
    console.print(closing_table_rich(report, console.width))
    console.print(f"{report['seconds'] / 60:.1f} minutes, {report['peak_rss_bytes'] / 2**30:.1f} GiB at most.")
    console.print(f"The whole story: {page}\nThe model's card: {card}\nTalk to it: exaone chat {out}")
    return 0


def _tell_measured(progress: Any, stage: str, entry: dict[str, Any]) -> None:
    low, high = entry["ci95"]
    not_judged = f"; {entry['error_share']:.1%} could not be judged" if entry["error_share"] else ""
    progress.message(
        f"{stage}: pass@1 {entry['pass_at_1']:.1%} [{low:.1%}, {high:.1%}] on {entry['num_problems']} problems "
        f"x {entry['k']} samples, {entry['mode']} mode{not_judged}"
    )


def _show_replies(console: Console, told: dict[str, Any]) -> None:
    from open_exaone.present.terminal import show_replies

    show_replies(told["problem"], told["replies"], console)


def judge(file: Path, kind: str, out: Path | None, settings: Path | None, unsafe: bool) -> int:
    from open_exaone.api.judging import judge_rows
    from open_exaone.base.files import read_numbered_jsonl, write_jsonl

    out = out or file.with_name(file.name.removesuffix(".jsonl") + ".verdicts.jsonl")
    if out.resolve() == file.resolve():
        raise ConfigError(f"--out {out}: is the file that is judged: choose another")
    limits = Machine(unsafe_code_execution=unsafe).judge(judge_settings(settings) or JudgeSettings())
    verdicts = judge_rows(read_numbered_jsonl(file), kind, limits, str(file))
    write_jsonl(out, ({k: v for k, v in asdict(verdict).items() if k != "outage"} for verdict in verdicts))
    for status, number in Counter(verdict.status.value for verdict in verdicts).most_common():
        say(f"{status:10} {number:7,} {number / len(verdicts):7.1%}")
    say(f"{len(verdicts):,} verdicts: {out}")
    return 0


def judge_settings(file: Path | None) -> JudgeSettings | None:
    """The table [judge] of a TOML file, such as a recipe."""
    if file is None:
        return None
    table = read_toml(file).get("judge", {})
    if not isinstance(table, dict) or "unsafe_code_execution" in table:
        raise ConfigError(f"{file}: [judge] must be a table of limits; isolation is lifted by --unsafe-code-execution")
    return validate(JudgeSettings, table, f"{file}: [judge]")


def chat(
    source: Path,
    thinking: bool,
    temperature: float,
    max_new_tokens: int | None,
    seed: int,
    device: str,
    dtype: str,
) -> int:
    from open_exaone.base.records import Sampling
    from open_exaone.checkpoint.folder import load_model, load_tokenizer, resolve_device
    from open_exaone.engine.engine import Engine
    from open_exaone.rollout.providers.local import LocalProvider
    from open_exaone.rollout.run import judge_reply
    from open_exaone.serve.chat import asking, run_chat

    if not 0 <= temperature <= 100:
        raise ConfigError(f"--temperature {temperature}: must lie in 0 (greedy) to 100")
    if max_new_tokens is not None and max_new_tokens < 1:
        raise ConfigError(f"--max-new-tokens {max_new_tokens}: must be at least 1")
    folder = resolve_model(source)
    model = load_model(folder, dtype=dtype, device=resolve_device(device))
    provider = LocalProvider(Engine(model, load_tokenizer(folder)))
    of_run = RunFolder(source).recipe().evaluation if is_run(source) else None
    limit = of_run.max_new_tokens if of_run else min(4096, model.config.max_positions // 2)
    sampling = Sampling(max_new_tokens=max_new_tokens or limit, temperature=temperature, seed=seed)
    problems = _solved_problems(source, folder)
    run_chat(asking(provider, sampling), judge_reply, problems, thinking=thinking)
    return 0


def _solved_problems(source: Path, folder: Path) -> list[Problem]:
    """Test problems that the model answered right greedily, one task after the other; none without a run."""
    measured = folder.parent / "eval"
    if not is_run(source) or not (measured / "samples.jsonl").is_file():
        return []
    run = RunFolder(source)
    solved = {row["problem"] for row in greedy_rows(measured) if row["verdict"] == "correct"}
    return [problem for problem in run.problems(run.recipe().evaluation.split) if problem.id in solved]


def convert(source: Path, target: Path, to: str | None, dtype: str | None, adapter: Path | None) -> int:
    from open_exaone.checkpoint.convert import convert

    config = convert(resolve_model(source), target, to=to, dtype=dtype, adapter=adapter)
    layout = "GGUF" if to == "gguf" else config.family
    say(f"{target}: {config.num_parameters:,} parameters in {config.num_layers} layers, as {layout}")
    return 0


def models() -> int:
    from open_exaone.present.models import published_table

    console = Console()
    console.print(published_table(), width=max(console.width, 80))
    return 0


def doctor() -> int:
    from open_exaone.present.doctor import checks

    console = Console()
    styles = {"ok": "green", "missing": "red", "note": "yellow"}
    results = checks()
    for status, what, detail in results:
        console.print(f"{status:<7}", style=styles[status], end="")
        console.print(f" {what}: ", end="")
        console.print(detail)
    return 1 if any(status == "missing" for status, _, _ in results) else 0
