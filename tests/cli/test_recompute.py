"""task=verify runs=FOLDER: a result once more from nothing, number by number; and deleted files that come back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from support.class_jobs import done as class_job
from support.jobs import config
from support.sweep_plans import make, work

from emo.cli import plan
from emo.cli.recompute import compare
from emo.cli.run import run_job
from emo.cli.tasks import run_task
from emo.core.errors import UserError
from emo.core.sealed import seal
from emo.core.store import Store
from emo.pipeline import extracted

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the outputs of a finished job, to be copied."""
    folder = tmp_path_factory.mktemp("done") / "outputs"
    assert run_job(config(folder)) == 0
    return folder


@pytest.fixture
def outputs(done: Path, tmp_path: Path) -> Path:
    """Return a copy of it."""
    return Path(shutil.copytree(done, tmp_path / "outputs"))


def verify(outputs: Path, capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Run the task; returns its exit code and what it says."""
    capfd.readouterr()
    code = run_task(config(outputs, "task=verify", f"runs={outputs}/run", "console=rich", *words))
    return code, " ".join(" ".join(capfd.readouterr()).split())


def change(path: Path, arm: str, metric: str, by: float) -> None:
    """Add to a number of a result, with a seal that fits: somebody edited it, or another program wrote it."""
    result = json.loads(path.read_text())
    result["arms"][arm][metric]["value"] += by
    path.write_text(json.dumps(seal(result)))


def test_a_result_agrees_with_itself(outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Computed from nothing: the store beside it is neither read nor written."""
    shutil.rmtree(outputs / "store")
    code, said = verify(outputs, capfd)
    assert code == 0, said
    assert " agree exactly, 0 within 1e-05, 0 differ; largest difference 0" in said
    assert "1 of 1 results are what their jobs give" in said
    assert not list(outputs.glob("store/*/*"))


def test_what_differs_is_named(outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A number that was changed, and artifacts and files that are not what was written."""
    [path] = (outputs / "run").glob("*/result.json")
    change(path, "steer", "logprob_margin", 0.25)
    artifact = next(outputs.glob("store/*/*/tensors.safetensors"))
    artifact.write_bytes(artifact.read_bytes()[:-1] + b"\x7f")
    (path.parent / "samples.jsonl").write_text("")
    code, said = verify(outputs, capfd)
    assert code == 1
    assert "1 differ; largest difference 0.25" in said
    assert "arms.steer.logprob_margin.value: stored " in said
    for damaged in (artifact.parent, path.parent / "samples.jsonl"):
        assert f"{damaged}: gone or not what was written" in said
    assert "0 of 1 results are what their jobs give" in said


def test_what_cannot_be_compared_is_said(outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    [path] = (outputs / "run").glob("*/result.json")
    whole = path.read_text()
    path.write_text(whole.replace('"wall_s"', '"wall_t"'))
    code, said = verify(outputs, capfd)
    assert code == 1 and "its seal is wrong" in said
    path.write_text(json.dumps(seal(json.loads(whole) | {"address": "0" * 64})))
    code, said = verify(outputs, capfd)
    assert code == 1 and "cannot be computed again (its data, its model or a stage" in said
    path.unlink()
    with pytest.raises(UserError, match=r"task=verify: no result there; type runs=FOLDER"):
        verify(outputs, capfd)
    with pytest.raises(UserError, match=r"task=verify: which results\? type runs=FOLDER"):
        run_task(config(outputs, "task=verify"))


def test_numbers_that_round_differently_agree() -> None:
    """Another machine rounds; a text, a number that is missing, and a bool for a number do not."""
    old = {"arms": {"steer": {"kl": {"value": 1000.0, "ci": [0.5, None]}}}, "chosen": {"alpha": 1}, "wall_s": 3.0}
    new = {"arms": {"steer": {"kl": {"value": 1000.005, "ci": [0.5, None]}}}, "chosen": {"alpha": 1}, "wall_s": 9.0}
    found = compare(old, new)
    assert (found.equal, found.close, found.wrong) == (3, 1, []) and found.largest == pytest.approx(0.005)
    new = {"arms": {"steer": {"kl": {"value": 1001.0, "ci": [0.5, 0.7]}}}, "chosen": {"alpha": True}, "new": 1}
    wrong = compare(old, new).wrong
    assert [line.partition(":")[0] for line in wrong] == [
        "arms.steer.kl.value", "arms.steer.kl.ci[1]", "chosen.alpha", "new",
    ]  # fmt: skip


def spoil(path: Path) -> None:
    """Delete one file and cut the others of a folder short."""
    files = sorted(p for p in path.iterdir() if p.is_file() and p.name not in ("result.json", "sweep.json"))
    files[0].unlink()
    for file in files[1:]:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def state(path: Path) -> dict[str, bytes]:
    """Return the data files of a folder."""
    return {p.name: p.read_bytes() for p in path.iterdir() if p.suffix in (".jsonl", ".csv") and p.is_file()}


def names(path: Path) -> set[str]:
    """Return the files of a folder that are not empty."""
    return {p.name for p in path.rglob("*") if p.is_file() and p.stat().st_size}


def test_deleted_and_cut_files_of_a_job_come_back(outputs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports, samples and figures, from the store: no model is loaded."""
    monkeypatch.setattr(extracted, "load", lambda *_: pytest.fail("the model was loaded"))
    [folder] = (path.parent for path in (outputs / "run").glob("*/result.json"))
    before, files = state(folder), names(folder)
    assert {"report.html", "samples.jsonl", "metrics.jsonl"} <= files
    spoil(folder)
    assert run_job(config(outputs)) == 0
    assert (state(folder), names(folder)) == (before, files)


def test_deleted_and_cut_files_of_a_sweep_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, 0.5, 1)
    work(plan.announce(made))
    plan.conclude(made)
    root = tmp_path / "run"
    before, files = state(root), names(root)
    assert "results.csv" in before
    monkeypatch.setattr(extracted, "load", lambda *_: pytest.fail("the model was loaded"))
    spoil(root)
    spoil(made.jobs[0].folder)
    waiting = plan.announce(made)
    assert [job.address for job in waiting] == [made.jobs[0].address]
    work(waiting)
    plan.conclude(made)
    assert (state(root), names(root)) == (before, files)
    (root / "results.csv").unlink()
    assert plan.announce(made) == []
    plan.conclude(made)
    assert state(root) == before


def test_a_class_job_comes_back_and_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    job, folder, _ = class_job(tmp_path, "control.units=[]")
    code, said = verify(tmp_path, capfd)
    assert code == 0 and "0 differ" in said, said
    before, files = state(folder), names(folder)
    spoil(folder)
    monkeypatch.setattr(Store, "put", lambda *_: pytest.fail("something was computed"))
    assert run_job(job.config) == 0
    assert (state(folder), names(folder)) == (before, files)
