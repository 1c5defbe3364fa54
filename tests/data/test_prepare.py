"""Prepared data holds what the tokenizer makes of the rows, whole or not at all, and knows what it was made from."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from tokenizers import processors
from transformers import AutoTokenizer

from data.made_up import PAIR, PROBLEM, TALK, TEXT, THOUGHT, write_rows
from doubles import make_tokenizer
from open_exaone.base.errors import ConfigError, DataError, RunFolderError
from open_exaone.base.files import locked
from open_exaone.data.batch import join, singles
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.document import Document
from open_exaone.data.prepare import prepare, prepare_units
from open_exaone.data.render import render_batch
from open_exaone.data.rows import Conversation, Example
from open_exaone.data.store import Prepared, describe_file
from open_exaone.text.tokenizer import Tokenizer

TOKENIZER = make_tokenizer()
USER, THINKS = THOUGHT["messages"][0], {"role": "assistant", "content": "It is 5.", "reasoning_content": "2 + 3 = 5"}


@pytest.fixture
def made(tmp_path):
    """Prepares rows: made(kind, rows, …) -> Prepared."""

    def make(kind, rows, *, max_tokens=200, source=None, name="out", **settings):
        path = write_rows(tmp_path / "rows.jsonl", rows)
        data = DataConfig(sources=(SourceConfig(path=path, **(source or {})),), **settings)
        return prepare(data, TOKENIZER, tmp_path / name, kind=kind, max_tokens=max_tokens)

    return make


def plain(document):
    return list(document.ids), list(document.loss_mask)


def rendered(messages, thinking=False):
    return TOKENIZER.render(messages, thinking=thinking, with_mask=True)


def test_replies_are_learned_in_their_mode(made):
    rows = [TALK, THOUGHT, TALK]
    prepared = made("sft", rows)
    talk, thought = rendered(TALK["messages"]), rendered([USER, THINKS], thinking=True)
    assert [plain(document) for document in prepared.documents] == [talk, thought, talk]
    assert [group.mode for group in prepared.groups] == ["non_reasoning", "reasoning"]
    assert prepared.group_N.tolist() == [0, 1, 0] and prepared.rows_N.tolist() == [0, 1, 2]
    assert prepared.tokens_N.tolist() == [len(talk[0]), len(thought[0]), len(talk[0])]
    assert prepared.learned_N.tolist() == [sum(talk[1]), sum(thought[1]), sum(talk[1])]
    assert [group.tokens for group in prepared.groups] == [2 * len(talk[0]), len(thought[0])]


def test_in_non_reasoning_mode_a_thought_is_left_out(made):
    prepared = made("sft", [THOUGHT], source={"mode": "non_reasoning"})
    assert [plain(document) for document in prepared.documents] == [
        rendered([USER, {**THINKS, "reasoning_content": ""}])
    ]


def test_a_format_that_shows_thoughts_is_not_shown_one_in_non_reasoning_mode(monkeypatch):
    shown = []
    monkeypatch.setattr(
        TOKENIZER, "render_dialogues", lambda asked: shown.extend(asked) or [([1, 2], [False, True])] * len(asked)
    )
    source = SourceConfig(path="rows.jsonl", mode="non_reasoning")
    render_batch([Example(Conversation((USER, THINKS)))], TOKENIZER, "sft", source)
    assert [dialogue.messages for dialogue in shown] == [(USER, TALK["messages"][1])]
    shown.clear()
    render_batch([Example(Conversation((USER, THINKS, USER, THINKS)))], TOKENIZER, "sft", source)
    assert not any("reasoning_content" in message for dialogue in shown for message in dialogue.messages)


def test_all_replies_of_a_conversation_are_learned_once(made):
    other = {"role": "assistant", "content": "And 6."}
    talk = [*TALK["messages"], {"role": "user", "content": "And 3 + 3?"}, other]
    [document] = made("sft", [{"messages": talk}]).documents
    ids, mask = rendered(talk)
    first_mask = rendered(TALK["messages"])[1]
    assert list(document.ids) == ids
    assert list(document.loss_mask) == [*first_mask, *mask[len(first_mask) :]]
    assert plain(made("sft", [{"messages": talk}], turns="last", name="last").documents[0]) == (ids, mask)
    thinking = [USER, THINKS, *talk[2:]]  # a later turn does not show the thought
    documents = made("sft", [{"messages": thinking}], name="thinking").documents
    assert [plain(document) for document in documents] == [rendered([USER, THINKS], True), rendered(thinking)]


def test_tools_are_offered(made):
    tool = {"name": "add", "parameters": {}}
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "add", "arguments": {"a": 1}}]}
    talk = [USER, call, {"role": "tool", "content": {"sum": 5}}, TALK["messages"][1]]
    [document] = made("sft", [{"messages": talk, "tools": [tool]}], turns="last", max_tokens=400).documents
    call["content"] = ""
    assert list(document.ids) == TOKENIZER.render(talk, tools=[tool])


@pytest.mark.parametrize("flag", [True, False])  # transformers 5 reads it nowhere
@pytest.mark.parametrize("has_processor", [True, False])
def test_a_text_begins_as_transformers_tokenises_it(made, tmp_path, monkeypatch, has_processor, flag):
    TOKENIZER.save(tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps({**settings, "add_bos_token": flag}))
    if has_processor:
        backend = tokenizers.Tokenizer.from_str(TOKENIZER.backend.to_str())
        backend.post_processor = processors.TemplateProcessing("[BOS] $A", None, [("[BOS]", TOKENIZER.bos_id)])
        (tmp_path / "model" / "tokenizer.json").write_text(backend.to_str())
    theirs = AutoTokenizer.from_pretrained(tmp_path / "model")(TEXT["text"])["input_ids"]
    monkeypatch.setattr(f"{__name__}.TOKENIZER", Tokenizer.load(tmp_path / "model"))
    [document] = made("pretrain", [TEXT]).documents
    assert list(document.ids) == [*theirs, TOKENIZER.end_id]
    assert (theirs[0] == TOKENIZER.bos_id) == has_processor
    [document] = made("sft", [TALK], name="talk").documents  # a conversation begins as its format says
    assert list(document.ids).count(TOKENIZER.bos_id) == 0


def test_pretraining_learns_everything(made):
    [document] = made("pretrain", [TEXT]).documents
    assert list(document.ids) == [*TOKENIZER.encode(TEXT["text"]), TOKENIZER.end_id]
    assert all(document.loss_mask)
    assert list(made("pretrain", [TEXT]).learned_N) == [len(document.ids) - 1]  # nothing predicts the first
    [document] = made("pretrain", [TALK], name="talk").documents
    assert list(document.ids) == rendered(TALK["messages"])[0] and all(document.loss_mask)


def test_a_pair_is_one_example_of_two_documents(made):
    prepared = made("preference", [PAIR, {**PAIR, "chosen": "2."}])
    replies = [[{"role": "assistant", "content": text}] for text in ("It is 2.", "It is 3.")]
    wanted = [rendered([{"role": "user", "content": PAIR["prompt"]}, *reply]) for reply in replies]
    chosen, rejected = prepared.units[0]
    assert [plain(chosen), plain(rejected)] == wanted
    assert (chosen.advantage, rejected.advantage) == (1.0, -1.0)
    assert len(prepared) == len(prepared.units) == 2
    assert prepared.tokens_N[0] == len(wanted[0][0]) + len(wanted[1][0])
    with pytest.raises(DataError, match="was prepared for 'preference'"):
        _ = prepared.documents


def test_columns_that_nothing_reads_are_in_the_manifest(made):
    [source] = made("sft", [TALK, {**TALK, "source": "x"}, {**TALK, "source": "x", "tags": []}]).manifest["sources"]
    assert source["unread"] == {"source": 2}  # and not the empty tags


def test_pairs_of_which_one_reply_is_left_are_dropped_and_counted(made):
    long = {"prompt": "Q", "chosen": "a" * 50 + "b", "rejected": "a" * 50 + "c"}
    thoughts = {"prompt": "Q", "chosen": "<think>\nT\n</think>\n\nA", "rejected": "<think>\nU\n</think>\n\nA"}
    cut = made("preference", [PAIR, long], max_tokens=45, too_long="truncate", name="cut")
    assert len(cut.units) == 1 and cut.manifest["sources"][0]["dropped"] == {"same replies": 1}
    plain = made("preference", [PAIR, thoughts], source={"mode": "non_reasoning"}, name="plain")
    assert len(plain.units) == 1 and plain.manifest["sources"][0]["dropped"] == {"same replies": 1}
    assert len(made("preference", [PAIR, thoughts], name="whole").units) == 2
    same = {**PAIR, "rejected": PAIR["chosen"]}
    found = made("preference", [same, PAIR, same], name="same")  # without bad_rows = "drop"
    assert len(found.units) == 1 and found.manifest["sources"][0]["dropped"] == {"same replies": 2}
    assert "rows.jsonl: line 1: rejected" in found.manifest["sources"][0]["first_dropped"]["same replies"]
    with pytest.raises(DataError, match=r"none of its rows can be used \(same replies: 2\)"):
        made("preference", [same, same], name="none")


def test_units_have_one_reply_or_several_each_with_its_advantage(made, tmp_path):
    rows = [{"prompt": "Q", "completion": text, "label": text == "A"} for text in "AB"]
    prepared = made("preference", rows)
    assert [[reply.advantage for reply in unit] for unit in prepared.units] == [[1.0], [-1.0]]
    assert prepared.unit_sizes_N.tolist() == [1, 1] and len(prepared) == 2
    sizes = (3, 1, 4)
    units = [
        [Document([size, place, 7], [False, True, True], (place - 1) / size) for place in range(size)] for size in sizes
    ]
    found = prepare_units([("reasoning", "Q", unit) for unit in units], tmp_path / "own", name="own", settings={})
    assert found.unit_sizes_N.tolist() == list(sizes) and found.tokens_N.tolist() == [3 * size for size in sizes]
    for unit, wanted in zip(found.units, units, strict=True):
        assert [list(reply.ids) for reply in unit] == [reply.ids for reply in wanted]
        assert [reply.advantage for reply in unit] == pytest.approx([reply.advantage for reply in wanted])


@pytest.mark.parametrize("kind", ["sft", "preference", "pretrain"])
def test_a_reply_that_is_cut_has_no_end(made, kind):
    rows = {"sft": TALK, "preference": PAIR, "pretrain": TEXT}
    whole = made(kind, [rows[kind]], name="whole")
    documents = [*whole.units[0]] if kind == "preference" else [*whole.documents]
    ends = [max(index for index, id in enumerate(one.ids) if id == TOKENIZER.end_id) for one in documents]
    cut = made(kind, [rows[kind]], max_tokens=min(ends), too_long="truncate", name="cut")
    documents = [*cut.units[0]] if kind == "preference" else [*cut.documents]
    assert all(one.ids[-1] != TOKENIZER.end_id and len(one.ids) == min(ends) for one in documents)


def test_problems_come_back_as_they_were(made):
    rows = [{**PROBLEM, "id": "a", "level": 3}, {"question": "몇 개?", "answer": "2"}]
    prepared = made("rl", rows)
    first, second = prepared.problems
    assert (first.id, first.question, first.answer, first.metadata) == ("a", PROBLEM["question"], "7", {"level": 3})
    assert (second.id, second.language, second.answer) == ("rows.jsonl:2", "ko", "2")
    assert prepared.tokens_N[0] == len(
        TOKENIZER.render([{"role": "user", "content": PROBLEM["question"]}], thinking=True, generation_prompt=True)
    )


def test_problems_of_several_sources_have_ids_of_their_own(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_rows(tmp_path / name / "rows.jsonl", [PROBLEM, {**PROBLEM, "id": "x"}])
    sources = tuple(SourceConfig(path=str(tmp_path / name / "rows.jsonl")) for name in ("a", "b"))
    prepared = prepare(DataConfig(sources=sources), TOKENIZER, tmp_path / "out", kind="rl", max_tokens=100)
    assert [problem.id for problem in prepared.problems] == ["0/rows.jsonl:1", "0/x", "1/rows.jsonl:1", "1/x"]


def test_a_full_disk_leaves_nothing_behind(made, tmp_path, monkeypatch):
    def add(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("open_exaone.data.store.Writer.add", add)
    with pytest.raises(RunFolderError, match="the disk is full"):
        made("sft", [TALK])
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "rows.jsonl"]


def test_worked_solutions_of_problems_can_be_learned(made):
    prepared = made("sft", [PROBLEM, {"question": "Q?", "answer": "5"}], bad_rows="drop")
    assert len(prepared) == 1
    assert prepared.manifest["sources"][0]["dropped"] == {"no worked reply": 1}


def test_documents_can_be_packed_and_stay_as_they_are(made):
    prepared = made("sft", [TALK, THOUGHT])
    batch = join(singles(prepared.documents[:]))
    assert batch.ids_T.tolist() == [*prepared.documents[0].ids, *prepared.documents[1].ids]
    with pytest.raises(ValueError, match="read-only"):
        prepared.documents[0].ids[0] = 1
    with pytest.raises(IndexError):
        prepared.documents[2]
    assert plain(prepared.documents[-1]) == plain(prepared.documents[1])


def test_what_is_too_long_is_dropped_cut_or_split_and_counted(made):
    long = {"text": "How much is 2 + 3? " * 20}
    whole = [*TOKENIZER.encode(long["text"]), TOKENIZER.end_id]
    prepared = made("pretrain", [TEXT, long], max_tokens=50)
    [counts] = prepared.manifest["sources"]
    assert (counts["examples"], counts["dropped"]) == (1, {"too long": 1})
    first = counts["first_dropped"]["too long"]
    assert "line 2: has more than" in first and first.endswith("shorten it, or raise max_tokens up to the context")
    prepared = made("pretrain", [TEXT, long], max_tokens=50, too_long="truncate", name="cut")
    assert list(prepared.documents[1].ids) == whole[:50] and prepared.manifest["sources"][0]["truncated"] == 1
    prepared = made("pretrain", [TEXT, long], max_tokens=50, too_long="split", name="split")
    pieces = [list(document.ids) for document in prepared.documents[1:]]
    assert [token for piece in pieces for token in piece] == whole and max(map(len, pieces)) <= 50
    assert min(map(len, pieces)) > 25 and prepared.manifest["sources"][0]["split"] == 1


def test_a_cut_that_leaves_nothing_to_learn_drops_the_row(made):
    prompt_tokens = len(TOKENIZER.render(TALK["messages"][:1], generation_prompt=True))
    with pytest.raises(DataError, match="none of its rows can be used \\(nothing learned: 1\\)"):
        made("sft", [TALK], max_tokens=prompt_tokens, too_long="truncate")
    assert list(made("sft", [TALK], max_tokens=prompt_tokens + 1, too_long="truncate").learned_N) == [1]


def two_thoughts(second):
    """A talk of which each reply is a document of its own, as later turns do not show its thought."""
    again = {"role": "assistant", "content": second, "reasoning_content": "T"}
    return {"messages": [USER, THINKS, {"role": "user", "content": "And?"}, again]}


def test_a_reply_that_is_lost_where_another_is_kept_is_counted(made):
    long, first = two_thoughts("So. " * 50), len(rendered([USER, THINKS], True)[0])
    prepared = made("sft", [long] * 8, max_tokens=first + 20)
    [counts] = prepared.manifest["sources"]
    assert (len(prepared), counts["dropped"], counts["dropped_parts"]) == (8, {}, {"too long": 8})
    assert "line 1: a part of it, such as a reply, has more than" in counts["first_dropped"]["too long"]
    prompt = len(TOKENIZER.render(long["messages"][:3], generation_prompt=True, thinking=True))
    assert prompt > first
    [counts] = made("sft", [long] * 8, max_tokens=first, too_long="truncate", name="cut").manifest["sources"]
    assert (counts["examples"], counts["truncated"]) == (8, 0)
    assert counts["dropped_parts"] == {"nothing learned": 8}


def test_policies_that_make_no_sense_are_refused(made):
    with pytest.raises(ConfigError, match="split"):
        made("sft", [TALK], too_long="split")
    with pytest.raises(ConfigError, match="truncate"):
        made("rl", [PROBLEM], too_long="truncate")
    for kind, rows in (("sft", [TEXT]), ("preference", [TALK]), ("rl", [TALK]), ("pretrain", [PAIR])):
        with pytest.raises(DataError, match=f"{kind} trains on .*: take other rows, or another kind of stage"):
            made(kind, rows)


def test_bad_rows_stop_or_are_dropped_and_counted(made, tmp_path):
    rows = [TALK, b"\xff", {"messages": []}, TALK]
    with pytest.raises(DataError, match=r"(?s)line 2: is not UTF-8.*exaone data check"):
        made("sft", rows)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "rows.jsonl"]
    prepared = made("sft", rows, bad_rows="drop")
    [counts] = prepared.manifest["sources"]
    assert (counts["rows"], counts["examples"], counts["dropped"]) == (4, 2, {"not UTF-8": 1, "empty": 1})


def test_opened_again_it_is_the_same_and_nothing_is_tokenised(made, monkeypatch):
    first = made("sft", [TALK, THOUGHT])
    monkeypatch.setattr("open_exaone.data.worker.render_batch", None)
    again = made("sft", [TALK, THOUGHT])
    assert again.fingerprint == first.fingerprint and again.manifest == first.manifest


def test_a_changed_source_is_refused_by_name(made, tmp_path):
    made("sft", [TALK, THOUGHT])
    with pytest.raises(DataError, match=r"rows\.jsonl: was changed after this data was prepared"):
        made("sft", [THOUGHT, TALK])  # as large as before
    source = tmp_path / "folder"
    source.mkdir()
    files = [source / "a.jsonl", source / "b.jsonl"]
    for file in files:
        write_rows(file, [TALK])
    data = DataConfig(sources=(SourceConfig(path=str(source)),))

    def again():
        return prepare(data, TOKENIZER, tmp_path / "two", kind="sft", max_tokens=200)

    again()
    files[1].rename(source / "c.jsonl")
    with pytest.raises(DataError, match=r"b\.jsonl: was removed"):
        again()
    files[1].write_bytes((source / "c.jsonl").read_bytes())
    with pytest.raises(DataError, match=r"c\.jsonl: was added"):
        again()
    (source / "c.jsonl").unlink()
    assert len(again()) == 2


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    data = DataConfig(sources=(SourceConfig(path=write_rows(path, [TALK, THOUGHT])),))

    def change(*_):
        write_rows(path, [THOUGHT, TALK])

    with pytest.raises(DataError, match=r"rows\.jsonl: changed while it was read"):
        prepare(data, TOKENIZER, tmp_path / "out", kind="sft", max_tokens=200, on_progress=change)
    assert not (tmp_path / "out").exists()


def test_other_settings_are_refused_by_name(made):
    made("sft", [TALK, THOUGHT])
    with pytest.raises(DataError, match=r"other settings \(data.turns, max_tokens\)"):
        made("sft", [TALK, THOUGHT], max_tokens=100, turns="last")


def test_a_changed_manifest_is_refused(made):
    folder = made("sft", [TALK, THOUGHT]).folder
    written = json.loads((folder / "manifest.json").read_text())
    for name, change in (
        ("groups", lambda value: value[0].update(tokens=value[0]["tokens"] + 1)),
        ("sources", lambda value: value[0].update(rows=3)),
    ):
        manifest = json.loads(json.dumps(written))
        change(manifest[name])
        (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(DataError, match=r"manifest\.json: was changed after it was written"):
            Prepared(folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(DataError, match="another version"):
        Prepared(folder)
    (folder / "manifest.json").write_text(json.dumps(written))
    prepared = Prepared(folder)
    before = prepared.fingerprint
    prepared.manifest["groups"][0]["tokens"] += 1
    assert prepared.fingerprint != before


def test_a_verifier_that_nobody_knows_is_refused_before_anything_is_read(made, tmp_path, monkeypatch):
    for verifier in ("nosuch", "gone.py:judge"):
        with pytest.raises(ConfigError, match=verifier.partition(":")[0]):
            made("rl", [PROBLEM], source={"verifier": verifier})
    assert len(made("sft", [PROBLEM], source={"verifier": "nosuch"})) == 1  # nobody judges
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def judge(answer, gold, metadata):\n    return True\n")
    assert len(made("rl", [PROBLEM], source={"verifier": "mine.py:judge"}, name="mine")) == 1


def test_a_file_under_two_names_is_one_file(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [TALK])
    (tmp_path / "link.jsonl").symlink_to(path)
    for other in (f"{tmp_path}/./rows.jsonl", str(tmp_path), str(tmp_path / "link.jsonl")):
        data = DataConfig(sources=(SourceConfig(path=path), SourceConfig(path=other)))
        with pytest.raises(ConfigError, match=r"\.jsonl: two of the sources hold it"):
            prepare(data, TOKENIZER, tmp_path / "out", kind="sft", max_tokens=200)


@pytest.mark.parametrize("other", ["auto", "reasoning", "non_reasoning"])
@pytest.mark.parametrize("one", ["auto", "reasoning", "non_reasoning"])
def test_a_file_is_learned_twice_only_in_two_modes(one, other, tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [THOUGHT] * 5)
    sources = (SourceConfig(path=path, mode=one), SourceConfig(path=f"{tmp_path}/./rows.jsonl", mode=other))
    make = partial(prepare, DataConfig(sources=sources), TOKENIZER, tmp_path / "out", kind="sft", max_tokens=200)
    if {one, other} == {"reasoning", "non_reasoning"}:
        assert len(make()) == 10
    else:
        with pytest.raises(ConfigError, match='two of the sources hold it; .* mode "reasoning" and the other'):
            make()


def test_a_name_of_bytes_that_are_no_text_is_written_down(tmp_path):
    folder, rows = tmp_path / "rows", [TALK, b'{"\\udc00": 1}']
    folder.mkdir()
    try:
        write_rows(folder / os.fsdecode(b"\xff.jsonl"), rows)
    except (OSError, UnicodeEncodeError):  # a file system that takes no such name
        write_rows(folder / "a.jsonl", rows)
    data = DataConfig(sources=(SourceConfig(path=str(folder)),), bad_rows="drop")
    prepared = prepare(data, TOKENIZER, tmp_path / "out", kind="sft", max_tokens=200)
    assert r"\udc00" in prepared.manifest["sources"][0]["first_dropped"]["missing field"]


def test_hashing_stops_where_it_is_asked_to(tmp_path, monkeypatch):
    path, asked = tmp_path / "a", []
    path.write_bytes(bytes(range(256)) * 50)
    monkeypatch.setattr("open_exaone.data.store._BLOCK_BYTES", 1000)
    monkeypatch.setattr("open_exaone.base.interrupt.check", lambda: asked.append(1))
    assert describe_file(path) == {"bytes": 12_800, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert len(asked) == 13


def test_a_flipped_byte_is_found(made, tmp_path):
    folder = made("sft", [TALK, THOUGHT]).folder
    for name in ("ids.bin", "loss_mask.bin", "ends.bin", "examples.bin"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:5] + bytes([content[5] ^ 1]) + content[6:])
        with pytest.raises(DataError, match=f"{name}: was changed after it was written"):
            Prepared(folder)
        (folder / name).write_bytes(content)
    (folder / "ends.bin").unlink()
    with pytest.raises(DataError, match="ends.bin: is missing"):
        Prepared(folder)


def test_another_process_keeps_out(made, tmp_path):
    with locked(tmp_path / ".out.lock", "busy"), pytest.raises(RunFolderError, match="another process"):
        made("sft", [TALK])


def test_prepared_data_is_opened_by_many_ranks_at_once(made, tmp_path):
    first = made("sft", [TALK])
    with locked(tmp_path / ".out.lock", "busy"):  # as another rank holds it that opens the data
        assert made("sft", [TALK]).fingerprint == first.fingerprint


def test_the_same_tokens_whatever_the_chunks(made, monkeypatch):
    rows = [TALK, THOUGHT] * 20
    first = made("sft", rows)
    monkeypatch.setattr("open_exaone.data.examples.CHUNK_ROWS", 7)
    assert made("sft", rows, name="other").manifest["files"] == first.manifest["files"]


SLOW = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from doubles import make_tokenizer
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.prepare import prepare
data = DataConfig(sources=(SourceConfig(path={path!r}),))
goes = lambda *_: print("goes", flush=True)
prepare(data, make_tokenizer(), Path({out!r}), kind="sft", max_tokens=200, on_progress=goes)
print("done", flush=True)
"""


def test_a_killed_preparation_is_done_again(tmp_path):
    path, out = write_rows(tmp_path / "rows.jsonl", [TALK, THOUGHT] * 5000), tmp_path / "out"
    script = SLOW.format(tests=str(Path(__file__).parents[1]), path=path, out=str(out))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while "goes" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert not out.exists() and (tmp_path / ".out.partial").exists()
    data = DataConfig(sources=(SourceConfig(path=path),))
    prepared = prepare(data, TOKENIZER, out, kind="sft", max_tokens=200)
    assert len(prepared) == 10_000 and not (tmp_path / ".out.partial").exists()
    assert np.array_equal(prepared.documents[0].ids, prepared.documents[9998].ids)
    assert json.loads((out / "manifest.json").read_text())["sources"][0]["rows"] == 10_000
