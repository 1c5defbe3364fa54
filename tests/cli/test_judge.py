"""`exaone judge`: recorded replies are judged from a file."""


def test_a_file_without_replies_is_refused(cli, tmp_path) -> None:
    (tmp_path / "a.jsonl").touch()
    code, text = cli("judge", tmp_path / "a.jsonl")
    assert code == 1 and "a.jsonl: holds no reply to judge" in text
    assert not (tmp_path / "a.verdicts.jsonl").exists()
