"""`exaone data stats`: lengths as a table and as numbers."""

import json

from data.made_up import PROBLEM, TALK, THOUGHT, write_rows
from doubles import make_tokenizer


def test_stats_tell_lengths_by_domain_and_mode(cli, tmp_path, tokenizer_folder):
    rows = [{**TALK, "about": "sums"}] * 3 + [{**THOUGHT, "about": "thoughts"}]
    path, out = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "lengths.json"
    code, said = cli("data", "stats", path, "--tokenizer", tokenizer_folder, "--field", "domain=about", "--out", out)
    assert code == 0 and "sums" in said and "thoughts" in said
    groups = {(group["domain"], group["mode"]): group for group in json.loads(out.read_text())["groups"]}
    talk = len(make_tokenizer().render(TALK["messages"]))
    assert groups["sums", None]["tokens"]["count"] == 3 and groups["sums", None]["tokens"]["max"] == talk
    assert groups["thoughts", "reasoning"]["thought_tokens"]["max"] == len(make_tokenizer().encode("2 + 3 = 5"))
    problems = write_rows(tmp_path / "problems.jsonl", [PROBLEM, {"question": "Q?", "answer": "5"}])
    cli("data", "stats", problems, "--tokenizer", tokenizer_folder, "--out", out)
    assert json.loads(out.read_text())["groups"][-1]["tokens"]["count"] == 2  # with and without a solution
