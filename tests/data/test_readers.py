"""A file of any layout, read by a function of the user's own: the same checks, and the same data, as of JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.jobs import config

from emo.config.schema import Config, DatasetConfig
from emo.core.errors import UserError
from emo.core.targets import target_digest
from emo.data.labelled import load_items
from emo.data.scenarios import load_splits
from emo.data.texts import TEXTS
from emo.pipeline.scenario import Job

NAMES = ("anger", "sadness", "fear")
MODULE = '''
"""Blocks of lines "name: value", an empty line between them."""

def blocks(path):
    record, files = {}, sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        for n, line in enumerate([*file.read_text(encoding="utf-8").splitlines(), ""], 1):
            name, colon, value = line.partition(": ")
            if line and not colon:
                raise ValueError(f"line {n}: no 'name: value' ({line})")
            if line:
                record[name] = value
            elif record:
                yield record
                record = {}

def scenarios(path):
    """The same, with three events."""
    for record in blocks(path):
        events = {name: record.pop(name) for name in ("positive", "neutral", "negative") if name in record}
        yield record | {"event": events}

def mistaken(path):
    for record in blocks(path):
        yield {"text": record["txet"]}

def numbered(path):
    return [{1: "text"}]

def unnamed(path):
    for record in blocks(path):
        raise ValueError("an empty talk")
        yield record
'''
TEXTS_OF = [{"text": f"Text {i}, of {name}", "label": name} for i in range(10) for name in NAMES]


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put a module of a user's own where Python finds it."""
    path = tmp_path / "own_reader.py"
    path.write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    target_digest.cache_clear()
    yield path
    sys.modules.pop("own_reader", None)


def written(path: Path, records: list[dict[str, str]]) -> Path:
    """Write records as blocks of lines."""
    path.write_text(
        "\n\n".join("\n".join(f"{k}: {v}" for k, v in record.items()) for record in records), encoding="utf-8"
    )
    return path


def labelled(path: Path, reader: str | None = "blocks") -> DatasetConfig:
    target = None if reader is None else f"own_reader.{reader}"
    return DatasetConfig(name="talks", path=str(path), kind="labelled", text="text", label="label", _target_=target)


def flat(record: dict[str, str | dict[str, str]]) -> dict[str, str]:
    own = {key: x for key, x in record.items() if isinstance(x, str)}
    return own | dict(record["event"])  # type: ignore[arg-type]


def scenario_file(folder: Path) -> Path:
    lines = (TEXTS / "sev.jsonl").read_text(encoding="utf-8").splitlines()[:40]
    return written(folder / "scenarios.blocks", [flat(json.loads(line)) for line in lines])


def job(folder: Path, path: Path, *words: str) -> Config:
    target = "dataset._target_=own_reader.scenarios"
    return config(folder, "dataset=jsonl", f"dataset.path={path}", "dataset.limit=2", target, *words)


def test_labelled_texts_are_those_of_json_lines(tmp_path: Path) -> None:
    own = load_items(labelled(written(tmp_path / "talks.blocks", TEXTS_OF)), NAMES, 0)
    (tmp_path / "talks.jsonl").write_text("\n".join(map(json.dumps, TEXTS_OF)), encoding="utf-8")
    other = load_items(labelled(tmp_path / "talks.jsonl", None), NAMES, 0)
    assert [[item[1:] for item in part] for part in own[:3]] == [[item[1:] for item in part] for part in other[:3]]
    assert own.classes == NAMES and own.digest != other.digest


def test_scenarios_are_those_of_json_lines(tmp_path: Path) -> None:
    path = scenario_file(tmp_path)
    (tmp_path / "plain.jsonl").write_text(
        "\n".join((TEXTS / "sev.jsonl").read_text(encoding="utf-8").splitlines()[:40]), encoding="utf-8"
    )
    own = load_splits(DatasetConfig(name="mine", path=str(path), _target_="own_reader.scenarios"), 0)
    other = load_splits(DatasetConfig(name="jsonl", path=str(tmp_path / "plain.jsonl")), 0)
    assert own[:3] == other[:3] and own.digest != other.digest


def test_a_folder_is_the_readers_too(tmp_path: Path) -> None:
    folder = tmp_path / "talks"
    folder.mkdir()
    for k in range(2):
        written(folder / f"{k}.txt", TEXTS_OF[15 * k : 15 * k + 15])
    first = load_items(labelled(folder), NAMES, 0)
    assert sum(map(len, first[:3])) == 30
    written(folder / "1.txt", [*TEXTS_OF[15:29], {"text": "Another one", "label": "fear"}])
    assert load_items(labelled(folder), NAMES, 0).digest != first.digest


def test_file_and_module_are_part_of_the_address(tmp_path: Path, module: Path) -> None:
    path = scenario_file(tmp_path)
    plain = Job(job(tmp_path, path)).result_address
    assert Job(job(tmp_path, path)).result_address == plain
    copied = tmp_path / "copy.blocks"
    copied.write_bytes(path.read_bytes())
    assert Job(job(tmp_path, copied)).result_address == plain
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert Job(job(tmp_path, path)).result_address != plain
    module.write_text(MODULE + "# another line\n", encoding="utf-8")
    target_digest.cache_clear()
    load_splits.__globals__["_SPLIT"].clear()  # one process sees one version of a module
    assert Job(job(tmp_path, copied)).result_address != plain


@pytest.mark.parametrize(
    ("reader", "content", "said"),
    [
        ("blocks", "text: a\nlabel: fear\n\nlabel fear", ", line 4: no 'name: value' (label fear)"),
        ("blocks", "words: a\nlabel: fear", ", record 1: no column 'text' (dataset.text), only words, label"),
        ("mistaken", "text: a\n\ntext: b", ", record 1: KeyError: 'txet' (own_reader.py, line 25, of own_reader.mist"),
        ("numbered", "", ", record 1: own_reader.numbered gives {\"record\": {\"1\": \"text\"}}, not a dict of texts"),
        ("unnamed", "text: a", ", record 1: an empty talk"),
        ("nothing", "text: a", "own_reader has no nothing, only blocks, scenarios"),
    ],
)  # fmt: skip
def test_what_is_wrong_names_the_file_and_the_line(tmp_path: Path, reader: str, content: str, said: str) -> None:
    path = tmp_path / "talks.blocks"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        load_items(labelled(path, reader), NAMES, 0)
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert str(refused.value).startswith("dataset._target_=" if reader == "nothing" else str(path))


def test_scenarios_go_through_the_same_checks(tmp_path: Path) -> None:
    path = scenario_file(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace("neutral: ", "middling: ", 1), encoding="utf-8")
    with pytest.raises(UserError, match="scenarios.blocks, record 1: event 'neutral' must be a non-empty text"):
        Job(job(tmp_path, path))


def test_the_command_line_asks_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\._target_=own_reader\.blocks: which file\? type dataset\.path=FILE"):
        config(tmp_path, "dataset._target_=own_reader.blocks")
    with pytest.raises(UserError, match=r"dataset\.name=talks: not one of sev, sev_test"):
        config(tmp_path, "dataset.name=talks")
