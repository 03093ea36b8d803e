"""A full disk is one line that names the place; a read-only one is read. Both on a small file system of their own."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
from support.jobs import config
from support.sweep_plans import FAST, make, strengths, work

from emo.cli import plan
from emo.cli.run import run_job
from emo.config import error_text as cli
from emo.core import console, store
from emo.core.disk import DiskFullError, is_full
from emo.core.errors import UserError

ADVICE = "is not written, what is finished is kept; make room (python run.py task=gc shows what can go) and type"


def fill(disk: Path) -> Path:
    """Leave no room, and return the file that takes it."""
    path = disk / "filler"
    free = os.statvfs(disk)
    path.write_bytes(bytes(free.f_bavail * free.f_frsize))
    return path


def one_line(text: str) -> str:
    """Return the only line of a text."""
    assert len(text.splitlines()) == 1, text
    return text


def said_once(capfd: pytest.CaptureFixture[str]) -> str:
    """Return what a job says of its failure, and check that it shows no traceback."""
    said = " ".join(" ".join(capfd.readouterr()).split())
    assert said.count("No space left on device") == 1 and "Traceback" not in said, said
    assert ADVICE in said
    return said


@pytest.mark.usefixtures("quiet")
def test_no_room_for_an_artifact_or_a_result(tmp_path: Path, disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The job fails with one line, nothing is half there, and with room the same line goes on."""
    given = config(tmp_path / "outputs", FAST, f"paths.store={disk}/store")
    filler = fill(disk)
    assert run_job(given) == 1
    said = said_once(capfd)
    assert f"{disk}/store/" in said and ": stage " in said
    assert not [path for path in (disk / "store").rglob("*") if path.is_file()]
    filler.unlink()
    assert run_job(given) == 0
    taken = len(list((disk / "store").glob("*/*/manifest.json")))
    given = config(disk / "outputs", FAST, f"paths.store={disk}/store")
    (disk / "outputs").mkdir()
    filler = fill(disk)
    capfd.readouterr()
    assert run_job(given) == 1
    assert f"{disk}/outputs/run/" in (said := said_once(capfd)) and "its result is not written" in said
    assert not [path for path in (disk / "outputs").rglob("*") if path.name.startswith(".writing")]
    filler.unlink()
    assert run_job(given) == 0
    assert len(list((disk / "store").glob("*/*/manifest.json"))) == taken


@pytest.mark.usefixtures("quiet")
def test_no_room_for_the_list_and_the_table_of_a_sweep(disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    made = make(disk, 0.5, 1)
    (disk / "run").mkdir()
    filler = fill(disk)
    capfd.readouterr()
    assert cli.guard(lambda: len(plan.announce(made))) == 1
    said = one_line(capfd.readouterr().err)
    assert f"failed: {disk}/run/sweep.json: No space left on device: the list of the sweep's jobs {ADVICE}" in said
    assert not [path for path in (disk / "run").iterdir() if path.name != ".sweeps.lock"]
    filler.unlink()
    work(plan.announce(made))
    filler = fill(disk)
    capfd.readouterr()
    assert cli.guard(lambda: plan.conclude(made)) == 1
    said = one_line(capfd.readouterr().err)
    assert f"failed: {disk}/run/results.csv: No space left on device: the table of the sweep {ADVICE}" in said
    assert not list((disk / "run").glob("*.csv")) and not list((disk / "run").glob(".writing*"))
    filler.unlink()
    assert plan.announce(made) == [] and not plan.conclude(made)
    assert strengths(disk / "run") == [0.5, 1.0]


@pytest.mark.usefixtures("quiet")
def test_outputs_that_cannot_be_written_are_shown(
    tmp_path: Path, disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """With everything done, a job and a sweep print what they have; with something to do they are refused."""
    made, more = make(disk, 0.5, 1), make(disk, 0.5, 2)
    work(plan.announce(made))
    plan.conclude(made)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    console.setup("rich")
    capfd.readouterr()
    assert plan.announce(made) == [] and not plan.conclude(made)
    said = " ".join(capfd.readouterr().out.split())
    assert "0 to run, 2 already done" in said and "cannot be written, so what is there is shown" in said
    assert "test: mean" in said and "steer" in said
    assert run_job(config(disk, FAST, "intervention.alpha=1", "console=rich")) == 0
    said = capfd.readouterr().out
    assert "already done" in said and "test: mean" in said
    with pytest.raises(UserError, match=r"cannot be written \(read-only file system\)"):
        plan.announce(more)
    with pytest.raises(UserError, match=r"cannot be written \(read-only file system\)"):
        run_job(config(disk, FAST, "intervention.alpha=2"))
    with pytest.raises(UserError, match=r"cannot be written \(read-only file system\)"):
        run_job(config(disk, FAST, "intervention.alpha=1", "name=other"))  # done, but under another name
    work(
        [
            made.jobs[0]._replace(
                config=config(tmp_path / "new", FAST, "intervention.alpha=0.5", f"paths.store={disk}/store")
            )
        ]
    )
    assert list((tmp_path / "new" / "run").glob("*/result.json"))  # from a store that is only read


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_what_a_full_disk_is(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by the system, by another error that hides it, or by safetensors, which gives its text only."""
    error = OSError(number, os.strerror(number))
    hidden = ValueError("could not be written")
    hidden.__cause__ = error
    told = RuntimeError(f'Error while serializing: I/O error: Os {{ code: {number}, kind: StorageFull, message: "" }}')
    assert all(map(is_full, (error, hidden, told, DiskFullError())))
    assert not any(map(is_full, (OSError(errno.EACCES, "no"), ValueError("os"), None)))

    def refuse(*_: object, **__: object) -> None:
        raise told

    monkeypatch.setattr(store, "_write", refuse)
    made = store.Store(tmp_path)
    with pytest.raises(DiskFullError, match=f"capture/0{{16}}: {os.strerror(number)}: stage capture is not written"):
        made.get_or_compute("capture", "0" * 64, {}, store.Artifact)
    assert not (tmp_path / "capture" / ("0" * 16)).exists() and not list((tmp_path / "capture").glob(".writing*"))
