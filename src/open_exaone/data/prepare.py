"""Tokenises sources once, streaming, into a folder of memory-mapped files (`data.store`).

    prepare(data, tokenizer, folder, *, kind, max_tokens, on_progress=None) -> Prepared
        data         DataConfig
        kind         "pretrain" (all tokens are learned) | "sft" (replies are) | "preference" (pairs, labels) | "rl"
        max_tokens   the longest example; for "rl" the longest prompt
        on_progress  called with the name of a source and how many of its rows are done

The folder appears complete or not at all. A second call checks that nothing changed and opens the folder; it refuses
other settings, and sources whose files changed or are gone, by name.
"""

import hashlib
import json
import shlex
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from open_exaone.base.config import differences
from open_exaone.base.errors import ConfigError, DataError, OpenExaoneError
from open_exaone.base.files import explain_os_errors, locked, replace_folder, write_json
from open_exaone.base.records import MODES, Problem
from open_exaone.base.tables import RowError, encodable
from open_exaone.base.version import code_version
from open_exaone.data.columns import RowFormat
from open_exaone.data.config import DataConfig, SourceConfig
from open_exaone.data.document import Unit
from open_exaone.data.examples import Parsed, open_examples
from open_exaone.data.overlap import prompt_hash
from open_exaone.data.render import Fitted, Rendered
from open_exaone.data.rows import Example, fewer_collections
from open_exaone.data.source import SourceFile, find_files
from open_exaone.data.store import LAYOUT, MANIFEST, Group, Kind, Prepared, Writer, describe_file, manifest_hash
from open_exaone.data.worker import Chunk
from open_exaone.data.workers import Workers
from open_exaone.text.tokenizer import Tokenizer
from open_exaone.verify.judge import find_judge
from open_exaone.verify.own import check_own, is_own
from open_exaone.verify.settings import JudgeSettings

LEARNS: dict[Kind, tuple[RowFormat, ...]] = {
    "pretrain": ("text", "messages", "prompt_completion", "problems"),
    "sft": ("messages", "prompt_completion", "problems"),
    "preference": ("pairs", "unpaired"),
    "rl": ("problems",),
}  # the formats of rows that each kind can train on
TEACH_NOTHING = frozenset({"same replies"})  # reasons for which a row is left out whatever `bad_rows` is
CHUNK_CHARS = 500_000  # of text, in a chunk of rows; a single row may have more
OnProgress = Callable[[str, int], None]


@dataclass
class Counts:
    """How one source's rows were used."""

    format: RowFormat
    rows: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # by reason
    dropped_parts: Counter[str] = field(
        default_factory=Counter
    )  # replies and pieces of rows whose other parts are kept
    first_dropped: dict[str, str] = field(default_factory=dict)  # of each reason, the first row
    unread: Counter[str] = field(default_factory=Counter)  # columns that nothing reads, by the rows that have them
    truncated: int = 0
    split: int = 0
    examples: int = 0
    tokens: int = 0
    learned_tokens: int = 0


def prepare(
    data: DataConfig,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    kind: Kind,
    max_tokens: int,
    on_progress: OnProgress | None = None,
) -> Prepared:
    """Prepares data, or opens what was prepared before.

    Raises:
        ConfigError: `too_long` does not go with `kind`, a verifier is unknown, or two sources hold the same file.
        DataError: a row is bad and `bad_rows` is "refuse"; a source cannot be read, has no usable row, or has changed
            since; the folder holds data of other settings.
        RunFolderError: another process prepares the same folder, or the disk is full.
    """
    _check_settings(data, kind, max_tokens)
    files = [find_files(source) for source in data.sources]
    _check_named_once(data.sources, files)
    settings = {
        "kind": kind,
        "max_tokens": max_tokens,
        "tokenizer": tokenizer_hash(tokenizer),
        "data": data.model_dump(mode="json"),
    }
    with explain_os_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    described = [{file.name: describe_file(file.path) for file in of_one} for of_one in files]
    if (folder / MANIFEST).exists():  # whole, as folders are renamed into place; ranks open it at the same time
        return _reopen(folder, settings, described)
    with locked(folder.with_name(f".{folder.name}.lock"), f"{folder}: another process is preparing it"):
        if (folder / MANIFEST).exists():
            return _reopen(folder, settings, described)

        def write(partial: Path) -> dict[str, Any]:
            manifest = _write(partial, data, tokenizer, kind, max_tokens, on_progress)
            _check_unchanged(files, described)
            for source, of_one in zip(manifest["sources"], described, strict=True):
                source["files"] = of_one
            return manifest

        return _write_whole(folder, settings, write)


def prepare_units(
    units: Iterable[tuple[str, str, Unit]], folder: Path, *, name: str, settings: Mapping[str, Any]
) -> Prepared:
    """Prepares pairs or groups that are tokens already, such as a model's own samples.

    Args:
        units: each with its mode, its prompt's text, and its documents with their advantages.
        name: what their source is called.
        settings: what they follow from, as JSON; joins the fingerprint.

    Raises:
        RunFolderError: the disk is full.
    """

    def write(partial: Path) -> dict[str, Any]:
        writer, groups = Writer(partial, with_problems=False, with_units=True), dict[str, Group]()  # by mode
        try:
            for row, (mode, prompt, unit) in enumerate(units):
                group = groups.setdefault(mode, Group(0, name, mode, 0, 0))
                place = list(groups).index(mode)
                documents = [(list(document.ids), list(document.loss_mask)) for document in unit]
                advantages = [document.advantage for document in unit]
                hashed = prompt_hash(prompt)
                tokens, _ = writer.add(documents, group=place, row=row, prompt=hashed, advantages=advantages)
                groups[mode] = replace(group, examples=group.examples + 1, tokens=group.tokens + tokens)
            files = writer.close()
        finally:
            writer.abandon()
        return {"sources": [], "groups": list(map(asdict, groups.values())), "files": files}

    return _write_whole(folder, {"kind": "preference", **settings}, write)


def _write_whole(folder: Path, settings: dict[str, Any], write: Callable[[Path], dict[str, Any]]) -> Prepared:
    """Has `write` fill a folder beside this one and return its manifest; then puts it into its place."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with explain_os_errors(folder):
        partial.mkdir(parents=True)
        try:
            manifest = {**write(partial), "layout": LAYOUT, "settings": settings, "code": code_version()}
            write_json(partial / MANIFEST, {**manifest, "sha256": manifest_hash(manifest)})
            replace_folder(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return Prepared(folder, verify=False)


def _check_settings(data: DataConfig, kind: Kind, max_tokens: int) -> None:
    if data.too_long == "split" and kind != "pretrain":
        raise ConfigError(
            f'too_long = "split": is only for pretraining; with {kind}, a piece of a reply would have no prompt'
        )
    if data.too_long == "truncate" and kind == "rl":
        raise ConfigError('too_long = "truncate": a question that is cut is another question; use "drop"')
    if max_tokens < 2:
        raise ConfigError(f"max_tokens = {max_tokens}: must be at least 2")
    if kind == "rl":
        check_verifiers(data)


def check_verifiers(data: DataConfig) -> None:
    """Finds a verifier of the sources that is unknown or cannot be loaded.

    Raises:
        ConfigError: names the source.
    """
    for source in data.sources:
        try:
            find_judge(source.verifier)
            if is_own(source.verifier):
                check_own(source.verifier, JudgeSettings())
        except ValueError as error:
            raise ConfigError(f"{source.path}: {error}") from error


def _check_named_once(sources: Sequence[SourceConfig], files: Sequence[Sequence[SourceFile]]) -> None:
    """Two paths may lead to one file, whose rows would be learned twice; "auto" may learn a row in either mode."""
    owners: dict[tuple[Path, str], int] = {}
    for index, (source, of_one) in enumerate(zip(sources, files, strict=True)):
        for file, mode in product(of_one, MODES if source.mode == "auto" else (source.mode,)):
            if owners.setdefault((file.path.resolve(), mode), index) != index:
                raise ConfigError(
                    f"{file.name}: two of the sources hold it; leave it in one, with a larger share, or give one the "
                    'mode "reasoning" and the other "non_reasoning"'
                )


def check_sources(manifest: dict[str, Any], described: Sequence[dict[str, Any]]) -> None:
    """Compares the files of sources, described now, with those that were prepared.

    Raises:
        DataError: one has changed, is new or is gone; names it.
    """
    for before, found in zip(manifest["sources"], described, strict=True):
        for name, digest in before["files"].items():
            if name not in found:
                raise DataError(f"{name}: was removed after this data was prepared; {_FIX}")
            if found[name] != digest:
                raise DataError(f"{name}: was changed after this data was prepared; {_FIX}")
        for name in found.keys() - before["files"].keys():
            raise DataError(f"{name}: was added after this data was prepared; {_FIX}")


_FIX = "restore the file, or prepare the data again in another folder"


def tokenizer_hash(tokenizer: Tokenizer) -> str:
    """A hash of what a tokenizer makes of texts and of conversations."""
    digest = hashlib.sha256(tokenizer.backend.to_str().encode())
    messages = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A", "reasoning_content": "T"}]
    for thinking in (False, True):
        try:
            rendered = json.dumps(tokenizer.render(messages, thinking=thinking, with_mask=True))
        except OpenExaoneError:  # a tokenizer without a chat format can still read texts
            rendered = "none"
        digest.update(rendered.encode())
    return digest.hexdigest()


def _reopen(folder: Path, settings: dict[str, Any], described: Sequence[dict[str, Any]]) -> Prepared:
    prepared = Prepared(folder)
    changed = sorted(differences(prepared.manifest["settings"], settings))
    if changed:
        raise DataError(
            f"{folder}: holds data prepared with other settings ({', '.join(changed)}); set them back, or name another "
            "folder"
        )
    check_sources(prepared.manifest, described)
    return prepared


def _check_unchanged(files: Sequence[Sequence[SourceFile]], described: Sequence[dict[str, Any]]) -> None:
    for of_one, before in zip(files, described, strict=True):
        for file in of_one:
            if not file.path.exists() or describe_file(file.path) != before[file.name]:
                raise DataError(f"{file.name}: changed while it was read; run the same command again")


def _write(
    folder: Path, data: DataConfig, tokenizer: Tokenizer, kind: Kind, max_tokens: int, on_progress: OnProgress | None
) -> dict[str, Any]:
    """Writes all files but the manifest, whose content it returns."""
    writer = Writer(folder, with_problems=kind == "rl", with_units=kind == "preference")
    groups: dict[tuple[int, str], list[int]] = {}  # (source, mode): its number, examples, tokens
    sources = []
    try:
        with Workers(tokenizer) as workers:
            for index, source in enumerate(data.sources):
                counts = _Source(index, source, data, workers, kind, max_tokens, writer, groups).write(on_progress)
                sources.append({"path": source.path, "name": _name(source), **vars(counts)})  # a Counter is a dict
        files = writer.close()
    finally:
        writer.abandon()
    named = [
        asdict(Group(source, _name(data.sources[source]), mode, examples, tokens))
        for (source, mode), (_, examples, tokens) in groups.items()
    ]
    return {"sources": sources, "groups": named, "files": files}


def _name(source: SourceConfig) -> str:
    return Path(source.path).name or source.path


def _small(chunks: Iterable[list[Parsed]]) -> Iterator[list[Parsed]]:
    """Chunks of which none has much more text than `CHUNK_CHARS`."""
    for chunk in chunks:
        start = chars = 0
        for place, parsed in enumerate(chunk):
            if place > start and chars + len(parsed.text) > CHUNK_CHARS:
                yield chunk[start:place]
                start, chars = place, 0
            chars += len(parsed.text)
        yield chunk[start:]


@dataclass
class _Source:
    """One source on its way into the folder."""

    index: int
    source: SourceConfig
    data: DataConfig
    workers: Workers
    kind: Kind
    max_tokens: int
    writer: Writer
    groups: dict[tuple[int, str], list[int]]

    def write(self, on_progress: OnProgress | None) -> Counts:
        examples = open_examples(self.source, asked=self.kind == "rl")
        if examples.format not in LEARNS[self.kind]:
            wanted = ", ".join(LEARNS[self.kind])
            raise DataError(
                f"{self.source.path}: its rows have the format {examples.format}; {self.kind} trains on {wanted}: "
                "take other rows, or another kind of stage"
            )
        counts = Counts(examples.format)
        with fewer_collections():
            for chunk, fitted in self.workers.ahead(_small(examples.chunks), self._chunk):
                self._write_chunk(chunk, iter(fitted), counts)
                if on_progress is not None:
                    on_progress(_name(self.source), counts.rows)
        counts.unread = examples.parser.unread
        if not counts.examples:
            reasons = ", ".join(f"{reason}: {number:,}" for reason, number in counts.dropped.most_common())
            first = next(iter(counts.first_dropped.values()), "it has none")
            raise DataError(f"{self.source.path}: none of its rows can be used ({reasons}); the first: {first}")
        return counts

    def _chunk(self, chunk: list[Parsed]) -> Chunk:
        good = [parsed.result for parsed in chunk if isinstance(parsed.result, Example)]
        return Chunk(good, self.source, self.kind, self.data.turns, self.max_tokens, self.data.too_long)

    def _write_chunk(self, chunk: list[Parsed], of_good: Iterator[Fitted], counts: Counts) -> None:
        for parsed in chunk:
            counts.rows += 1
            if isinstance(parsed.result, RowError):
                self._drop_bad(parsed.result, counts)
                continue
            fitted = next(of_good)
            self._drop(fitted, parsed, counts)
            counts.truncated += fitted.was_cut and self.data.too_long == "truncate"
            counts.split += fitted.was_cut and self.data.too_long == "split"
            for one in fitted.kept:
                self._add(one, parsed, counts)

    def _add(self, rendered: Rendered, parsed: Parsed, counts: Counts) -> None:
        group = self.groups.setdefault((self.index, rendered.mode), [len(self.groups), 0, 0])
        assert isinstance(parsed.result, Example)
        prompt = prompt_hash(parsed.result.prompt)
        if self.kind == "rl":
            assert isinstance(parsed.result.content, Problem)
            problem = replace(parsed.result.content, id=self._problem_id(parsed.result, parsed.place))
            tokens, learned = len(rendered.documents[0][0]), 0
            self.writer.add_problem(problem, tokens=tokens, group=group[0], row=parsed.place, prompt=prompt)
        else:
            documents, advantages, place = rendered.documents, rendered.advantages, parsed.place
            tokens, learned = self.writer.add(
                documents, group=group[0], row=place, prompt=prompt, advantages=advantages
            )
        group[1] += 1
        group[2] += tokens
        counts.examples += 1
        counts.tokens += tokens
        counts.learned_tokens += learned

    def _problem_id(self, example: Example, place: int) -> str:
        """Unique over all sources, and the same wherever the files stand."""
        own = example.id or f"{_name(self.source)}:{place + 1}"
        return own if len(self.data.sources) == 1 else f"{self.index}/{own}"

    def _drop_bad(self, error: RowError, counts: Counts) -> None:
        if self.data.bad_rows == "refuse" and error.reason not in TEACH_NOTHING:
            check = shlex.join(["exaone", "data", "check", str(self.source.path)])
            raise DataError(
                f'{error}\n`{check}` lists all bad rows; fix them, or set bad_rows = "drop" to leave them out'
            )
        counts.dropped[error.reason] += 1
        counts.first_dropped.setdefault(error.reason, str(error))

    def _drop(self, fitted: Fitted, parsed: Parsed, counts: Counts) -> None:
        """Counts what is left out: parts of a row, or the whole row."""
        assert parsed.row is not None
        counted = counts.dropped_parts if fitted.kept else counts.dropped
        for refused in fitted.lost if fitted.kept else fitted.lost[:1]:
            counted[refused.reason] += 1
            why = encodable(f"{parsed.row.place}: {fitted.why(refused)}")
            counts.first_dropped.setdefault(refused.reason, why)
