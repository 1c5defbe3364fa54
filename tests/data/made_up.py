"""Rows in every format, and files of them."""

import json

TALK = {"messages": [{"role": "user", "content": "How much is 2 + 3?"}, {"role": "assistant", "content": "It is 5."}]}
THOUGHT = {
    "messages": [
        {"role": "user", "content": "How much is 2 + 3?"},
        {"role": "assistant", "content": "<think>\n2 + 3 = 5\n</think>\n\nIt is 5."},
    ]
}
COMPLETION = {"prompt": "How much is 4 + 4?", "completion": "It is 8."}
PAIR = {"prompt": "How much is 1 + 1?", "chosen": "It is 2.", "rejected": "It is 3."}
PROBLEM = {"question": "How much is 6 + 1?", "answer": "6 + 1 = 7\n#### 7"}
TEXT = {"text": "The answer is 5, as 2 + 3 = 5."}


def write_rows(path, rows):
    """Writes JSON lines; bytes are a line as it stands."""
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)
