"""Locks: whoever waits says for whom, without locks all goes on, and nothing relies on them."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from emo.config.check import REPOSITORY
from emo.core import console, locks
from emo.core.errors import UserError
from emo.core.store import Artifact, Store, address

KEY = address("capture", 1, a=1)
HOLDER = (
    "import sys, time; from pathlib import Path; from emo.core.locks import held\n"
    "with held(Path(sys.argv[1]), 'stage capture'): print('held', flush=True); time.sleep(60)"
)


@pytest.fixture(autouse=True)
def _rich() -> None:
    console.setup("rich")


def hold(path: Path) -> subprocess.Popen[str]:
    """Start a process that holds a lock, and return it once it does."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_whoever_waits_says_for_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line with the stage, the process, since when and what to do; then the work goes on, and no lock is left."""
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    store = Store(tmp_path)
    lock = tmp_path / "capture" / f".{KEY[:16]}.lock"
    holder = hold(lock)
    timer = threading.Timer(0.8, holder.kill)  # its lock goes with it
    timer.start()
    try:
        made = store.get_or_compute("capture", KEY, {}, lambda: Artifact(meta={"mine": True}))
    finally:
        timer.cancel()
        holder.kill()
        holder.wait()
    assert made.meta == {"mine": True}
    said = " ".join(capfd.readouterr().out.split())
    assert said.count("waiting for") == 1
    assert re.search(rf"stage capture \({KEY[:16]}\): waiting for pid {holder.pid} on \S+, at work on it", said), said
    assert re.search(r"\(since \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\); its outcome is used", said) and "Ctrl-C" in said
    assert not lock.exists()


def test_whoever_is_quick_says_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with locks.held(tmp_path / "lock", "nothing"):
        assert locks.is_held(tmp_path / "lock") and locks.try_lock(tmp_path / "lock") is None
    assert not (tmp_path / "lock").exists() and not locks.is_held(tmp_path / "lock")
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_the_rename_decides(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two compute the same at once: the first to finish is kept, both go on, and it is said once."""

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    store, both = Store(tmp_path), threading.Barrier(2)

    def compute(me: int) -> Artifact:
        both.wait(10)
        return Artifact(rows=[{"by": me}])

    others = [
        threading.Thread(target=store.get_or_compute, args=("capture", KEY, {}, lambda i=i: compute(i)))
        for i in range(2)
    ]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join(20)
    kept = Store(tmp_path).get("capture", KEY)
    assert kept is not None and kept.rows in ([{"by": 0}], [{"by": 1}])
    assert [path.name for path in (tmp_path / "capture").iterdir()] == [KEY[:16]]
    store.get_or_compute("other", address("other", 1), {}, Artifact)
    said = " ".join(capfd.readouterr().out.split())
    assert said.count("this file system has no locks") == 1 and os.strerror(number).lower() in said


def test_another_failure_of_a_lock_is_not_swallowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output"), locks.held(tmp_path / "lock", "nothing"):
        pass


def test_a_shared_store_is_read_below_ones_own(tmp_path: Path) -> None:
    """What is in it is not computed again, what is not goes into the own one, and nothing is written to it."""
    shared = Store(tmp_path / "shared")
    shared.get_or_compute("capture", KEY, {}, lambda: Artifact(meta={"shared": True}))
    before = sorted(path.name for path in (tmp_path / "shared").rglob("*"))
    mine = Store([tmp_path / "mine", tmp_path / "shared"])
    assert mine.get_or_compute("capture", KEY, {}, Artifact).meta == {"shared": True}
    assert not (tmp_path / "mine" / "capture").exists()
    other = address("capture", 1, a=2)
    mine.get_or_compute("capture", other, {}, lambda: Artifact(meta={"mine": True}))
    assert (tmp_path / "mine" / "capture" / other[:16]).is_dir()
    raw = tmp_path / "shared" / "capture" / KEY[:16] / "manifest.json"
    raw.write_text(raw.read_text().replace("true", "false"))  # damaged: not used, and not deleted: it is not ours
    assert mine.get_or_compute("capture", KEY, {}, lambda: Artifact(meta={"own": 1})).meta == {"own": 1}
    assert sorted(path.name for path in (tmp_path / "shared").rglob("*")) == before


def test_a_store_that_cannot_be_written_is_read(disk: Path) -> None:
    """What is missing is refused before it is computed, with the line to type."""
    Store(disk).get_or_compute("capture", KEY, {}, lambda: Artifact(meta={"a": 1}))
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert Store(disk).get_or_compute("capture", KEY, {}, Artifact).meta == {"a": 1}
    start = time.monotonic()
    with pytest.raises(UserError, match=r"stage other is not in it, and it cannot be written .*type paths\.store=\["):
        Store(disk).get_or_compute("other", address("other", 1), {}, lambda: pytest.fail("computed"))
    assert time.monotonic() - start < 1
