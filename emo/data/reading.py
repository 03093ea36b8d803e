"""Rows of a user's files: JSON lines, an array or an object of objects, delimited text, parquet; gzipped, or a folder.

A file of any other layout is read by a function of the user's own, `Reader`, that ``dataset._target_`` names.

What is ambiguous is refused with its line, never repaired without a word. Delimited text with quotes is read strictly:
a quote that is not closed, or closed in the middle of a text, is an error. Text divided by tabs has no quotes, unless
its header stands in quotes.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import traceback
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from emo.config.choices import READABLE, SUFFIXES, TABLES
from emo.core.errors import UserError
from emo.core.targets import load_target, target_digest
from emo.data.delimited import Layout, read_table, unique

PACKED = ".gz"
NO_DATA = ("readme", "license", ".", "_")  # begins the name of a file that a folder of data holds beside them
LONGEST = 160  # characters of a record in a message


class Row(NamedTuple):
    """One record, and where it stands."""

    where: str  # for messages: file and line
    id: str  # file and line, short
    cells: dict[str, Any]


class Rows(NamedTuple):
    """The records of all files, their sha256, and what is to be said about how they were read."""

    rows: list[Row]
    digest: str
    warnings: list[str]


class Reader(Protocol):
    """Reads a file of any layout: a function that ``dataset._target_`` names."""

    def __call__(self, path: Path, /) -> Iterable[dict[str, Any]]:
        """Return, or yield, the records of a file, in its order.

        Args:
            path: what ``dataset.path`` (or ``test_path``) names: a file, or a folder.

        Returns:
            Of scenarios: skeleton_id, theme, scenario, event {positive, neutral, negative}. Of labelled texts: the
            columns that ``dataset.text``, ``label``, ``literal`` and ``group`` name.

        Raises:
            ValueError: the file is not what it should be; a message that begins ``line 7: `` names the place.

        A reader that takes only some files of a folder has an attribute ``files``, their patterns (of `Path.rglob`):
        others are no part of its digest.
        """


def read_rows(path: Path, key: str, layout: Layout, target: str | None = None) -> Rows:
    """Read a file, or all files of a folder in the order of their names.

    Args:
        path: a file (.jsonl, .json, .csv, .tsv, .parquet; all but the last may be .gz), or a folder of one kind.
        key: that names it, for messages.
        layout: of delimited text.
        target: ``dataset._target_``, which reads it whatever its layout; None: by its suffix.

    Raises:
        UserError: it names the file and the line.
    """
    if target is not None:
        return _read_by(target, path)
    files, whole = files_of(path, key, layout), path.is_dir()
    rows: list[Row] = []
    warnings: list[str] = []
    for file in files:
        name = file.name if whole else file.name[: len(file.name) - len("".join(_suffixes(file)))]
        made, told = _read(file, key, layout)
        rows += [Row(f"{file}, {place} {n}", f"{name}:{n}", cells) for place, n, cells in made]
        warnings += told
    return Rows(rows, digest_of(files), warnings)


def _read_by(target: str, path: Path) -> Rows:
    """Return the records that a function of the user's own gives; its file is part of their digest."""
    reader: Reader = load_target(target, "dataset._target_", ["__call__"])
    patterns = getattr(reader, "files", ("*",))
    inside = sorted({file for pattern in patterns for file in path.rglob(pattern) if file.is_file()})
    files = [path] if path.is_file() else inside
    rows: list[Row] = []
    try:
        for n, record in enumerate(reader(path), 1):
            if not isinstance(record, dict) or not all(isinstance(name, str) for name in record):
                raise ValueError(f"{target} gives {shown({'record': record})}, not a dict of texts to values")
            rows.append(Row(f"{path}, record {n}", f"{path.stem}:{n}", record))
    except Exception as error:
        if isinstance(error, UserError):
            raise
        told = str(error)
        if not isinstance(error, ValueError):  # a mistake in the function, not in the file
            last = traceback.extract_tb(error.__traceback__)[-1]
            told = f"{type(error).__name__}: {told} ({Path(last.filename).name}, line {last.lineno}, of {target})"
        place = "" if told.startswith("line ") else f"record {len(rows) + 1}: "
        raise UserError(f"{path}, {place}{told}") from error
    own = json.dumps([target, target_digest(target), digest_of(files)])
    return Rows(rows, hashlib.sha256(own.encode()).hexdigest(), [])


def digest_of(files: Sequence[Path]) -> str:
    """Return the sha256 of a file, or of the names and contents of several."""
    own = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    if len(own) == 1:
        return own[0]
    return hashlib.sha256(json.dumps([[f.name, one] for f, one in zip(files, own, strict=True)]).encode()).hexdigest()


def files_of(path: Path, key: str, layout: Layout) -> list[Path]:
    """Return a file, or all of a folder; raises `UserError` where there is none, or files of several kinds."""
    if path.is_file():
        if _kind(path, layout) is None:
            raise UserError(f"{key}={path}: not a {READABLE}; with dataset.delimiter any other is read as a table")
        return [path]
    if not path.is_dir():
        raise UserError(f"{key}={path}: no such file")
    inside = sorted(p for p in path.iterdir() if p.is_file() and not p.name.lower().startswith(NO_DATA))
    other = [p.name for p in inside if _kind(p, layout) is None]
    suffixes = list(dict.fromkeys(_suffixes(p)[0] for p in inside if p.name not in other))
    if not suffixes:
        raise UserError(f"{key}={path}: a folder with no such file in it: {', '.join(SUFFIXES)}")
    if other or len(suffixes) > 1:
        raise UserError(
            f"{key}={path}: a folder of files of one kind is needed, it has {', '.join([*suffixes, *other][:5])}; "
            "name one file, or move the others"
        )
    return inside


def _suffixes(path: Path) -> list[str]:
    """Return the last suffix in lower case, and .gz behind it; as they stand in the name, but for case."""
    found = [suffix.lower() for suffix in path.suffixes[-2:]]
    return found[-2:] if found[-1:] == [PACKED] and len(found) > 1 else found[-1:] or [""]


def _kind(path: Path, layout: Layout) -> str | None:
    suffix = _suffixes(path)[0]
    if layout.delimiter is not None and suffix not in (".jsonl", ".json", ".parquet"):
        return ".csv"
    return suffix if suffix in SUFFIXES else None


def _read(path: Path, key: str, layout: Layout) -> tuple[list[tuple[str, int, dict[str, Any]]], list[str]]:
    kind = _kind(path, layout)
    if kind == ".parquet":
        return [("record", n, cells) for n, cells in enumerate(_parquet(path, key), 1)], []
    text = _text_of(path, key)
    if kind == ".json" and text.lstrip()[:1] == "[":
        return [("record", n, cells) for n, cells in enumerate(_array(path, text), 1)], []
    if kind == ".json" and (keyed := _keyed(path, text)):
        return [("record", n, cells) for n, cells in enumerate(keyed, 1)], []
    if kind in TABLES:
        made, told = read_table(path, text, layout)
        return [("line", n, cells) for n, cells in made], told
    lines = enumerate(text.split("\n"), 1)  # not splitlines: JSON allows U+2028 inside a text
    return [("line", n, parse_object(line, f"{path}, line {n}")) for n, line in lines if line.strip()], []


def _text_of(path: Path, key: str) -> str:
    content = path.read_bytes()
    if path.suffix.lower() == PACKED:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{key}={path}: no whole gzip file ({error}); copy it again") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{key}={path}: not UTF-8 (byte {error.start}); save it as UTF-8") from None


def parse_object(line: str, where: str) -> dict[str, Any]:
    """Return one JSON object; raises `UserError` where it is none, or has two fields of one name."""
    try:
        record = json.loads(line, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error.msg}, column {error.colno}); one JSON object a line") from None
    except _Twice as error:
        raise UserError(f"{where}: two fields are called '{error}'; rename or delete one") from None
    if not isinstance(record, dict):
        raise UserError(f"{where}: a {type(record).__name__}, not a JSON object")
    return record


class _Twice(Exception):
    """A name that two fields of an object have."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _Twice(key)
        found[key] = value
    return found


def _array(path: Path, text: str) -> list[dict[str, Any]]:
    try:
        records = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not JSON ({error.msg}, column {error.colno})") from None
    except _Twice as error:
        raise UserError(f"{path}: two fields of a record are called '{error}'; rename or delete one") from None
    for n, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise UserError(f"{path}, record {n}: a {type(record).__name__}, not a JSON object")
    return list(records)


def _keyed(path: Path, text: str) -> list[dict[str, Any]]:
    """Return the records of one object that has each under an id of its own; empty: it is lines of objects."""
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError:  # of lines, the second is too much: they are read, and refused, one by one
        return []
    except _Twice as error:
        raise UserError(f"{path}: two fields of an object are called '{error}'; rename or delete one") from None
    records = list(found.values()) if isinstance(found, dict) else []
    return records if all(isinstance(record, dict) for record in records) else []


def _parquet(path: Path, key: str) -> list[dict[str, Any]]:
    try:
        from emo.core.frames import pd  # a quarter of a second, and only a table in parquet needs it

        frame = pd.read_parquet(path)
    except ImportError:
        raise UserError(
            f"{key}={path}: reading parquet needs pyarrow; type pip install pyarrow, or save the table as .csv"
        ) from None
    except (OSError, ValueError) as error:  # what pyarrow raises for a file that is none
        raise UserError(f"{key}={path}: no parquet file that can be read ({error})") from None
    names = [str(name).strip() for name in frame.columns]
    unique(names, f"{key}={path}")
    return [dict(zip(names, map(_plain, values), strict=True)) for values in frame.itertuples(index=False, name=None)]


def _plain(value: Any) -> Any:
    """Return a value as JSON has it: lists of arrays, None of what is missing."""
    from emo.core.frames import pd

    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(own) for key, own in value.items()}
    if isinstance(value, list):
        return [_plain(own) for own in value]
    return None if pd.isna(value) else value


def shown(record: dict[str, Any]) -> str:
    """Return a record as it stands in a line of a message."""
    text = json.dumps(record, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else text[:LONGEST] + "..."
