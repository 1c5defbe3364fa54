"""What README shows is run."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_python_snippet_runs_as_printed(finished_run, tmp_path):
    [snippet] = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "nano-exaone-deep").symlink_to(finished_run[0])
    done = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_first_question_is_answered_as_printed(tmp_path):
    [(command, printed)] = re.findall(
        r"```sh\n(echo .*?)\n```\n\n```\n(.*?)```", README.read_text("utf-8"), flags=re.DOTALL
    )
    question, options = re.fullmatch(r"echo '([^']+)' \|\s+exaone chat(.*)", command).groups()
    asked = [sys.executable, "-m", "open_exaone", "chat", *options.split(), "--temperature", "0"]  # any machine's reply
    done = subprocess.run(
        asked, input=question, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, printed)


def test_every_room_in_the_tree_exists():
    text = README.read_text(encoding="utf-8")
    rooms = set(re.findall(r"^  (\w+)/ ", text, flags=re.MULTILINE))
    package = README.parent / "src" / "open_exaone"
    assert rooms == {path.name for path in package.iterdir() if path.is_dir() and not path.name.startswith("_")}
