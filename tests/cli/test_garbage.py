"""task=gc: what may go is shown first, and what a result or a running process needs stays."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.fake_judge import FakeJudge, completion
from support.jobs import config

from emo.cli import garbage
from emo.cli.run import run_job
from emo.cli.tasks import run_task
from emo.config.check import REPOSITORY
from emo.core.errors import UserError
from emo.core.sealed import seal
from emo.core.store import Artifact, Store, address
from emo.pipeline import extracted

pytestmark = pytest.mark.usefixtures("quiet")
OLD = time.time() - 3 * 24 * 3600
USER = (
    "import sys, time; from emo.core.store import Store\n"
    "store = Store(sys.argv[1]); assert store.get('capture', sys.argv[2]) is not None\n"
    "print('held', flush=True); time.sleep(60)"
)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the outputs of a finished job, to be copied."""
    folder = tmp_path_factory.mktemp("done") / "outputs"
    assert run_job(config(folder)) == 0
    return folder


@pytest.fixture
def outputs(done: Path, tmp_path: Path) -> Path:
    """Return a copy of it with an artifact of no result, a dead process's scratch and lock, and logs; all are old."""
    folder = tmp_path / "outputs"
    shutil.copytree(done, folder)
    spare = Store(folder / "store")
    spare.put("capture", address("capture", 1, spare=1), Artifact(rows=[{"x": 1}]), {}, 0.0)
    (folder / "store" / "capture" / ".writing-dead").mkdir()
    (folder / "store" / "capture" / ".writing-dead" / "rows.jsonl").write_text("{}\n" * 100)
    (folder / "run" / ".writing-dead").mkdir()
    (folder / "store" / "replies" / ".0123456789abcdef.lock").touch()
    logs = folder / ".slurm" / ".submitit" / "17_0"
    logs.mkdir(parents=True)
    for name in ("17_0_submitted.pkl", "17_0_0_result.pkl", "17_0_0_log.out"):
        (logs / name).write_text("a log")
    for path in folder.rglob("*"):
        os.utime(path, (OLD, OLD))
    del spare
    return folder


def names(folder: Path) -> set[str]:
    """Return all files and folders below one."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def gc(folder: Path, *words: str) -> None:
    """Run the task with a table on the console."""
    assert run_task(config(folder, "task=gc", "console=rich", *words)) == 0


def test_it_previews_then_frees_then_nothing_is_left(outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = names(outputs)
    needed = len(list((outputs / "store").glob("*/*/manifest.json"))) - 1
    gc(outputs)
    said = " ".join(capfd.readouterr().out.split())
    assert names(outputs) == before
    for kind, count in (("scratch", 2), ("locks without a holder", 1), ("artifacts of no result", 1),
                        ("logs of launchers", 1), ("in all", 5)):  # fmt: skip
        assert f"{kind} {count} " in said.replace("│", "").replace("  ", " "), (kind, said)
    assert f"artifacts that stay: {needed} that results need" in said
    assert "nothing is deleted yet; the same line with gc.delete=true frees" in said
    gc(outputs, "gc.delete=true")
    assert "freed" in capfd.readouterr().out
    gone = before - names(outputs)
    spare = address("capture", 1, spare=1)[:16]
    assert {path for path in gone if path.count("/") < 4} >= {
        f"store/capture/{spare}", "store/capture/.writing-dead", "run/.writing-dead",
        "store/replies/.0123456789abcdef.lock", ".slurm/.submitit/17_0",
    }  # fmt: skip
    assert all(any(word in path for word in (spare, "dead", ".lock", ".slurm", ".in-use")) for path in gone), gone
    assert not names(outputs) - before
    gc(outputs, "gc.delete=true")
    assert "there is nothing to free" in capfd.readouterr().out


def test_a_result_is_whole_after_it(
    outputs: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same line finds it done; its deleted files come back, and another evaluator measures it, without a model."""
    gc(outputs, "gc.delete=true", "gc.hours=0")
    monkeypatch.setattr(extracted, "load", lambda *_: pytest.fail("the model was loaded"))
    capfd.readouterr()
    assert run_job(config(outputs, "console=rich")) == 0
    assert "already done" in capfd.readouterr().out
    [folder] = (path.parent for path in (outputs / "run").glob("*/result.json"))
    old = json.loads((folder / "result.json").read_text())
    (folder / "report.html").unlink()
    assert run_job(config(outputs)) == 0
    assert (folder / "report.html").is_file()
    new = json.loads((folder / "result.json").read_text())
    assert (new["arms"], new["artifacts"]) == (old["arms"], old["artifacts"])

    def answer(_: object) -> object:
        return completion('{"emotion": "sadness", "match": 0, "reason": "no"}')

    with FakeJudge(answer) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-0")
        words = ("evaluator=openai_judge", f"evaluator.base_url={server.url}", "task=judge", f"runs={outputs / 'run'}")
        assert run_task(config(outputs, *words)) == 0
    assert len(list((outputs / "run").glob("*/result.json"))) == 2


@pytest.fixture
def reader(outputs: Path) -> Iterator[subprocess.Popen[str]]:
    """Return a process that has read the spare artifact and still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", USER, str(outputs / "store"), address("capture", 1, spare=1)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_what_a_running_process_has_read_stays(
    outputs: Path, reader: subprocess.Popen[str], capfd: pytest.CaptureFixture[str]
) -> None:
    spare = outputs / "store" / "capture" / address("capture", 1, spare=1)[:16]
    gc(outputs, "gc.delete=true", "gc.hours=0")
    assert spare.is_dir() and "1 in use by running processes" in " ".join(capfd.readouterr().out.split())
    reader.kill()
    reader.wait()
    gc(outputs, "gc.delete=true", "gc.hours=0")
    assert not spare.exists()


def test_what_is_taken_between_the_preview_and_the_deletion_stays(outputs: Path) -> None:
    """A process that reads it in that moment, or computes it again, has it."""
    store = outputs / "store"
    [item] = (x for x in garbage.find(store, [outputs], 24.0).items if x.kind == "artifacts of no result")
    mine = Store(store)
    assert mine.get("capture", address("capture", 1, spare=1)) is not None
    assert not garbage._delete(item, store) and item.path.is_dir()
    del mine
    assert garbage._delete(item, store) and not item.path.exists()


def test_what_is_young_stays(outputs: Path) -> None:
    """An interrupted line goes on from it; gc.hours says how young."""
    for path in outputs.rglob("*"):
        os.utime(path)
    kinds = [item.kind for item in garbage.find(outputs / "store", [outputs], 1.0).items]
    assert kinds == ["locks without a holder"]
    found = garbage.find(outputs / "store", [outputs], 0.0)
    assert (len(found.items), found.young) == (5, 0)


def test_results_elsewhere_count(outputs: Path, tmp_path: Path) -> None:
    """A store that others share: runs=FOLDER names theirs; one that is misspelt is refused."""
    other = tmp_path / "other"
    (outputs / "run").rename(other)
    kinds = [item.kind for item in garbage.find(outputs / "store", [outputs], 1.0).items]
    assert kinds.count("artifacts of no result") > 1
    gc(outputs, f"runs={other}", "gc.delete=true")
    assert garbage.find(outputs / "store", [outputs, other], 1.0).items == []
    with pytest.raises(UserError, match="no such folder"):
        gc(outputs, f"runs={tmp_path / 'othr'}")


def test_a_result_that_does_not_say_what_it_needs_keeps_all(outputs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    [path] = (outputs / "run").glob("*/result.json")
    result = json.loads(path.read_text())
    path.write_text(json.dumps(seal({key: x for key, x in result.items() if key not in ("artifacts", "seal")})))
    gc(outputs, "gc.delete=true")
    said = " ".join(capfd.readouterr().out.split())
    assert "1 results do not say what they need" in said
    assert (outputs / "store" / "capture" / address("capture", 1, spare=1)[:16]).is_dir()
    assert not (outputs / ".slurm" / ".submitit" / "17_0").exists()


@pytest.mark.parametrize(
    ("script", "stays"),
    [
        ("echo '17_0 PENDING'", True),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False),
        ("exit 0", False),
        ("echo 'Unable to contact slurm controller' >&2; exit 1", True),
        (None, True),
    ],
)
def test_files_of_a_task_in_the_queue_stay(
    script: str | None, stays: bool, outputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it waits: only SLURM knows of a task that left no result."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    if script is not None:
        (bin_ / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (bin_ / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(bin_))
    logs = outputs / ".slurm" / ".submitit" / "17_0"
    (logs / "17_0_0_result.pkl").unlink()
    os.utime(logs / "17_0_submitted.pkl", (OLD, OLD))
    found = [item.path for item in garbage.find(outputs / "store", [outputs], 24.0).items]
    assert (logs not in found) == stays
