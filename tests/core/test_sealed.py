"""What is read back from disk is what was written: one changed bit anywhere never passes unseen."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.jobs import config

from emo.cli.run import run_job
from emo.core import console
from emo.core.sealed import DamagedError, changed, file_digests, read_sealed, seal, unseal
from emo.core.store import Artifact, Store
from emo.results.table import read_any, read_result, read_sweep

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text().filter(lambda key: key != "seal"), VALUES, max_size=5))
def test_a_sealed_object_comes_back(value: dict[str, object]) -> None:
    made = json.loads(json.dumps(seal(value)))
    assert unseal(made) == json.loads(json.dumps(value))
    assert seal(seal(value)) == seal(value)


@pytest.mark.parametrize("value", [[], None, "x", {}, {"a": 1}, {"a": 1, "seal": 3}, {"a": 1, "seal": "0" * 64}])
def test_what_has_no_seal_of_its_own_is_damaged(value: object) -> None:
    with pytest.raises(DamagedError):
        unseal(value)


def test_files_that_are_gone_or_changed_are_named(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a").write_text("a")
    (tmp_path / "sub" / "b").write_text("b")
    files = file_digests(tmp_path)
    assert list(files) == ["a", "sub/b"] and not changed(tmp_path, files)
    (tmp_path / "a").write_text("c")
    (tmp_path / "sub" / "b").unlink()
    assert changed(tmp_path, files) == ["a", "sub/b"]


def flip(path: Path, draw: random.Random) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(bytes(content))


def test_no_flipped_bit_of_an_artifact_is_used(tmp_path: Path) -> None:
    store, draw = Store(tmp_path), random.Random(0)
    made = Artifact(rows=[{"reply": "ja é", "nll": 0.25}], meta={"alpha": 1.5, "layers": [1, 2]})
    for _ in range(60):
        store.put("stage", "a" * 64, made, {"k": 3}, 0.1)
        flip(draw.choice(sorted(path for path in (tmp_path / "stage").rglob("*") if path.is_file())), draw)
        assert store.get("stage", "a" * 64) is None


@pytest.mark.usefixtures("quiet")
def test_no_flipped_bit_of_a_result_is_used(tmp_path: Path) -> None:
    """Every file of a finished job: its line, typed again, writes what was changed anew, with the same numbers."""
    made = config(tmp_path / "whole", "intervention=none", "evaluator=projection")
    assert run_job(made) == 0
    [folder] = (tmp_path / "whole" / "run").glob("*/")
    whole, draw = read_result(folder, whole=True), random.Random(1)
    assert whole is not None
    for k in range(60):
        copy = tmp_path / str(k)
        shutil.copytree(folder, copy)
        path = draw.choice(sorted(path for path in copy.rglob("*") if path.is_file()))
        flip(path, draw)
        assert read_result(copy, whole=True) is None
        if path.name == "result.json":
            assert read_any(copy) is None
        else:
            assert read_any(copy) == read_any(folder)  # the numbers are those of result.json, whatever lies beside it
        shutil.rmtree(copy)


@pytest.mark.usefixtures("quiet")
def test_a_changed_list_of_jobs_is_not_followed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    console.setup("quiet")
    path = tmp_path / "sweep.json"
    path.write_text(json.dumps(seal({"id": "1", "axes": ["model"], "jobs": [{"address": "a" * 64, "settings": {}}]})))
    assert read_sweep(tmp_path) == read_sealed(path)
    path.write_text(path.read_text().replace("model", "modem"))
    assert read_sweep(tmp_path) is None
    assert "type the sweep's line again" in capfd.readouterr().err
