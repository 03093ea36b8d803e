"""task=extract: everything that is found, as files; nothing written by the model, and nothing done twice."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.class_jobs import made as class_job
from support.jobs import config, overrides

from emo.cli.extract import extract, extraction
from emo.cli.tasks import run_task
from emo.core import console
from emo.core.errors import UserError
from emo.core.stopping import Stopped
from emo.find.circuit import Circuit
from emo.pipeline import extracted
from emo.pipeline.scenario import Job

LINE = "python run.py model=tiny_llama"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the lines that are printed."""
    lines: list[str] = []
    monkeypatch.setattr(console, "say", lines.append)
    monkeypatch.setattr(console, "warn", lines.append)
    return lines


def folders(outputs: Path) -> list[Path]:
    """Return what was extracted below ``outputs``."""
    return sorted((outputs / "run" / "extract").glob("[!.]*"))


def test_everything_is_found_and_nothing_is_written_by_the_model(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a line on steering too; the run of the circuit finds all of it in the store."""
    monkeypatch.setattr("emo.find.extraction.generate", None)
    monkeypatch.setattr("emo.measure.batch.generate", None)
    made = config(tmp_path, "intervention=steer", "circuit.budget=2x")
    extract([(made, LINE)])
    [folder] = folders(tmp_path)
    assert {path.name for path in folder.iterdir()} == {"circuit", "gguf", "directions.safetensors", "rankings.csv"}
    assert {path.stem for path in (folder / "gguf").iterdir()} == {"anger", "sadness", "fear"}
    assert {path.name for path in (tmp_path / "store").iterdir()} == {
        "directions", "probe_states", "attribution", "importance", "rms"
    }  # fmt: skip
    asked = Job(config(tmp_path, "intervention=circuit", "intervention.scale=1", "circuit.budget=2x"))
    assert Circuit.load(folder / "circuit").digest() == asked.circuit.digest()
    assert any("alpha 1 in rms, blocks 1-2 (given)" in line for line in said)
    used = next(line for line in said if line.startswith("next, try: "))
    assert used == f"next, try: {LINE} intervention=circuit circuit.path={folder / 'circuit'}"
    assert "llama.cpp: llama-cli -m MODEL.gguf --control-vector " + str(folder / "gguf" / "anger.gguf") in said
    again = len(said)
    monkeypatch.setattr(extracted, "load", None)  # no model is read for what is there
    extract([(made, LINE)])
    assert f"already there: {folder}" in said[again:] and len(folders(tmp_path)) == 1


@pytest.mark.usefixtures("quiet")
def test_it_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped behind the directions, nothing half is left, and the same line reads them."""
    made = config(tmp_path, "circuit.budget=2x")

    def stop(*_: object) -> None:
        raise Stopped("SIGTERM")

    with monkeypatch.context() as patch:
        patch.setattr(extracted, "attribute", stop)
        with pytest.raises(Stopped):
            extract([(made, LINE)])
    assert not list((tmp_path / "run" / "extract").iterdir())
    monkeypatch.setattr(extracted, "extract", None)  # the directions are there
    extract([(made, LINE)])
    assert len(folders(tmp_path)) == 1


@pytest.mark.usefixtures("quiet")
def test_replies_that_decide_are_elicited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where states are read over the reply, extraction writes it; nothing else is written."""
    monkeypatch.setattr("emo.measure.batch.generate", None)
    extract([(config(tmp_path, "directions.tokens=reply_mean", "circuit.budget=2x"), LINE)])
    told = json.loads(next(tmp_path.glob("store/directions/*/manifest.json")).read_text())
    assert told["config"]["directions"]["tokens"] == "reply_mean"


@pytest.mark.usefixtures("quiet")
def test_a_sweep_extracts_each_model_once(tmp_path: Path) -> None:
    """Jobs that differ only in what is done with the circuit have one extraction."""
    given = config(tmp_path, "circuit.budget=2x")
    other = replace(given, intervention=replace(given.intervention, kind="prompt"))
    extract([(given, LINE), (other, LINE), (config(tmp_path, "circuit.budget=1x"), LINE)])
    assert len(folders(tmp_path)) == 2


def test_labelled_texts_have_no_directions(tmp_path: Path) -> None:
    """One line; nothing written."""
    with pytest.raises(UserError, match="labelled texts have neither"):
        extract([(class_job(tmp_path), LINE)])
    assert not (tmp_path / "run").exists()
    assert extraction(config(tmp_path)).has_circuit


@pytest.mark.usefixtures("quiet")
def test_the_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By its word on the command line; in quiet mode it prints the folder alone."""
    words = [*overrides(tmp_path, "circuit.budget=2x"), "task=extract"]
    assert run_task(config(tmp_path, "circuit.budget=2x", "task=extract"), words) == 0
    [folder] = folders(tmp_path)
    assert capsys.readouterr().out.strip() == str(folder)
