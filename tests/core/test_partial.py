"""A stage that is broken off goes on where it was: whatever the moment, with the numbers of an undisturbed one."""

from __future__ import annotations

import contextlib
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.jobs import compose, config
from torch import Tensor

from emo.cli.run import run_job
from emo.config import error_text as cli
from emo.config.check import REPOSITORY
from emo.core import partial, stopping
from emo.core.partial import Running, fill, work
from emo.core.partial_log import Log
from emo.core.stopping import Stopped
from emo.core.store import Artifact, Store
from emo.find import extraction
from emo.measure import classifier, labels
from emo.model.prefix_tree import TokenTrees
from emo.pipeline import ranking_check
from emo.pipeline.jobs import make_job
from emo.pipeline.scenario import Job

CLOSE = 1e-5  # batches of another composition: the last digits of float32
Stages = dict[str, Any]


@pytest.fixture(autouse=True)
def signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Signals are heard, and the state that they leave is this test's own."""
    before = {name: signal.getsignal(getattr(signal, name)) for name in stopping.SIGNALS}
    monkeypatch.setattr(stopping, "_state", stopping._State())
    monkeypatch.setattr(extraction, "GROUPS_AT_ONCE", 1)  # a part is of one piece
    stopping.install()
    yield
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


def interrupted(monkeypatch: pytest.MonkeyPatch, every: int, run: Callable[[], Stages]) -> tuple[Stages, int]:
    """Call ``run`` until it ends, with a signal in every so many-th pass through the model; how often it came."""
    passes, real, times = 0, TokenTrees.extend, 0

    def extend(self: TokenTrees, *args: Any, **more: Any) -> Tensor:
        nonlocal passes
        passes += 1
        if passes % every == 0:
            signal.raise_signal(signal.SIGUSR2)
        return real(self, *args, **more)

    monkeypatch.setattr(TokenTrees, "extend", extend)
    while True:
        monkeypatch.setattr(stopping, "_state", stopping._State())
        try:
            with stopping.catching():
                return run(), times
        except Stopped:
            times += 1
            assert times < 60, "no progress"


def same(a: Any, b: Any, where: str) -> None:
    """Check that two results are equal, floats to the last digits of float32."""
    if isinstance(a, Artifact):
        same([a.tensors, a.rows, a.meta], [b.tensors, b.rows, b.meta], where)
    elif isinstance(a, Tensor):
        assert torch.allclose(a.double(), b.double(), rtol=CLOSE, atol=CLOSE, equal_nan=True), (where, a, b)
    elif isinstance(a, dict):
        assert sorted(a) == sorted(b), (where, a, b)
        for key in a:
            same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), (where, a, b)
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            same(x, y, f"{where}/{k}")
    elif isinstance(a, float) and isinstance(b, float):
        assert math.isclose(a, b, rel_tol=CLOSE, abs_tol=CLOSE) or (math.isnan(a) and math.isnan(b)), (where, a, b)
    else:
        assert a == b, (where, a, b)


def stages(folder: Path, names: Sequence[str], *words: str, classes: bool = False) -> Callable[[], Stages]:
    """Return what computes some stages of a job, of a new one each time."""
    if classes:
        made = compose([*CLASSES, f"paths.outputs={folder}", *words])
    else:
        made = config(folder, "batch_size=1", "control.seeds=1", "emotions.names=[anger,fear]", *words)

    def run() -> Stages:
        job = make_job(made)
        points = {"points": ranking_check.points(job)} if isinstance(job, Job) else {}
        return points | {name: getattr(job, name) for name in names}

    return run


CLASSES = (
    "model=tiny_llama", "dataset.limit=2", "emotions.names=[anger,sadness,fear]", "control.seeds=1",
    "control.units=[random]", "evaluator.bootstrap=20", "selector.ratio=0.2", "device=cpu", "batch_size=1",
    "console=quiet", "generation.max_new_tokens=3",
)  # fmt: skip
MEASURED = ("directions", "replies", "projections", "doses", "margins", "damage")
FOUND = ("directions", "attribution", "importance", "projections")


@pytest.mark.parametrize(
    ("names", "words", "every"),
    [
        (MEASURED, (), 43),
        (FOUND, ("intervention=circuit", "evaluator=projection"), 19),
        (("projections",), ("intervention=ablate_neurons", "attribution.check=2", "evaluator=projection"), 9),
        (("predictions",), ("intervention=mask",), 7),
        (("written",), ("intervention=induce",), 37),
    ],
)
def test_a_job_goes_on(
    names: Sequence[str], words: Sequence[str], every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A signal in every so many-th pass, until the job ends."""
    classes = names[0] in ("predictions", "written")
    whole = stages(tmp_path / "whole", names, *words, classes=classes)()
    got, times = interrupted(monkeypatch, every, stages(tmp_path / "broken", names, *words, classes=classes))
    assert times > 4
    same(whole, got, "")
    assert not list((tmp_path / "broken").rglob(".partial-*")) and not list(tmp_path.rglob(".writing-*"))


def test_labels_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is labelled is kept; only the rest is labelled again."""
    asked: list[int] = []

    class Classifier:
        names = ("anger", "fear", "neutral")

        def probabilities(self, texts: Sequence[str]) -> np.ndarray:
            asked.append(len(texts))
            if len(asked) in (2, 3):
                raise Stopped("SIGTERM")
            return np.array([[0.5, 0.25, len(text) / 1000] for text in texts])

    monkeypatch.setattr(classifier, "AT_ONCE", 4)
    monkeypatch.setattr(classifier, "load_classifier", lambda *_: Classifier())
    made, store = config(tmp_path, "evaluator=classifier"), Store(tmp_path / "store")
    replies = {
        arm: [{"sample": str(i), "emotion": "anger", "seed": 0, "reply": arm * (i + 1)} for i in range(5)]
        for arm in "ab"
    }

    def run() -> Artifact:
        return store.get_or_compute(
            "labels", "c" * 64, {}, lambda: Artifact(rows=sum(labels.label_all(store, made, replies).values(), []))
        )

    with pytest.raises(Stopped, match="4 of 10 replies"):
        run()
    with pytest.raises(Stopped):
        run()
    rows = run().rows
    assert asked == [4, 4, 4, 4, 2] and [row["sample"] for row in rows] == list("01234" * 2)
    assert [row["p"] for row in rows] == [0.5] * 10


def counting(n: int, asked: list[int], stop: Callable[[int], object] = lambda _: None) -> list[Any]:
    """Return the squares of 0..n-1 by a loop that is kept, notes which it computes, and calls ``stop`` before each."""

    def compute(left: list[int], done: Callable[[int, Any], None]) -> None:
        for k, i in enumerate(left):
            stop(i)
            asked.append(i)
            done(k, i * i)

    return fill("squares", "test", "rows", [[(None, i)] for i in range(n)], compute)


def test_short_work_leaves_no_file(tmp_path: Path) -> None:
    with work({"a": Log(tmp_path / "stage", "a" * 64)}):
        assert counting(5, []) == [0, 1, 4, 9, 16]
    assert not list(tmp_path.iterdir())
    assert counting(3, []) == [0, 1, 4]  # by hand, outside any artifact


def test_a_kill_loses_no_more_than_the_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are on disk once the interval is over, whatever becomes of the process."""
    now = [0.0]
    monkeypatch.setattr(partial, "monotonic", lambda: now[0])

    def second(i: int) -> None:
        now[0] += 10
        if i == 13:
            monkeypatch.setattr(partial.Work, "flush", lambda _: None)  # as if killed: nothing is written any more
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), work({"a": Log(tmp_path, "a" * 64)}):
        counting(20, [], second)
    monkeypatch.undo()
    asked: list[int] = []
    with work({"a": Log(tmp_path, "a" * 64)}):
        assert counting(20, asked) == [i * i for i in range(20)]
    assert asked == list(range(asked[0], 20)) and 13 - asked[0] <= partial.EVERY_S / 10


def test_a_disk_that_takes_nothing_ends_no_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(partial, "EVERY_S", 0.0)
    (tmp_path / "stage").write_text("a file where a folder is needed")
    with work({"a": Log(tmp_path / "stage", "a" * 64)}):
        assert counting(3, []) == [0, 1, 4]
    assert "could not be kept" in "".join(capfd.readouterr())


def test_what_is_kept_of_an_arm_is_used_whatever_the_others_are(tmp_path: Path) -> None:
    """Two arms share a row; a later run asks for one of them, beside another."""

    def stopped(_: int) -> None:
        if asked == [0]:
            raise Stopped("SIGTERM")

    def rows(*names: str) -> list[Any]:
        def compute(left: list[int], done: Callable[[int, Any], None]) -> None:
            for k, i in enumerate(left):
                stopped(i)
                asked.append(i)
                done(k, i)

        return fill("x", "test", "rows", [[(name, 0) for name in names], [(names[0], 1)]], compute)

    asked: list[int] = []
    keys = {name: name * 64 for name in "abc"}
    with pytest.raises(Stopped), work({n: Log(tmp_path, keys[n]) for n in "ab"}):
        rows("a", "b")
    asked.append(9)
    with work({n: Log(tmp_path, keys[n]) for n in "cb"}):
        assert rows("c", "b") == [0, 1]
    assert asked == [0, 9, 1]


def test_sums_go_on_and_half_a_pass_does_not_count(tmp_path: Path) -> None:
    def run(fault: int | None) -> Tensor:
        with work({"a": Log(tmp_path, "a" * 64)}):
            total = torch.zeros(2, dtype=torch.float64)
            running = Running("sums", "test", "rows", 6, lambda: {"total": total})
            running.restore({"total": total})
            for i in running.left():
                if i == fault:
                    raise Stopped("SIGTERM")
                with running.adding([i]):
                    total += i
            return total

    with pytest.raises(Stopped) as stop:
        run(3)
    assert str(stop.value) == "stopped by SIGTERM: what is finished is kept (3 of 6 rows); the same line continues"
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    with pytest.raises(Stopped):
        run(5)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1  # the newer in place of the older
    assert run(None).tolist() == [15, 15]


def test_a_signal_tells_how_much_is_kept(tmp_path: Path) -> None:
    """Also where it comes between two writes: what keeps the rows is not broken off by it once more."""

    def stopped(i: int) -> None:
        if i == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped) as stop, stopping.catching(), work({"a": Log(tmp_path, "a" * 64)}):
        counting(5, [], stopped)
    assert str(stop.value) == "stopped by SIGTERM: what is finished is kept (2 of 5 rows); the same line continues"


def test_a_signal_that_was_swallowed_ends_the_work(tmp_path: Path) -> None:
    def swallowed(i: int) -> None:
        if i == 2:
            with contextlib.suppress(BaseException):
                signal.raise_signal(signal.SIGTERM)

    asked: list[int] = []
    with pytest.raises(Stopped), stopping.catching(), work({"a": Log(tmp_path, "a" * 64)}):
        counting(5, asked, swallowed)
    assert asked == [0, 1, 2]


def test_a_signal_waits_for_the_end_of_a_write() -> None:
    reached = []

    def write() -> None:
        with stopping.catching(), stopping.held():
            signal.raise_signal(signal.SIGUSR1)
            reached.append("the end")

    with pytest.raises(Stopped, match="SIGUSR1"):
        write()
    assert reached and stopping.asked() == "SIGUSR1"


def test_a_stopped_job_has_no_result_and_the_next_one_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made = config(tmp_path, "intervention=none", "evaluator=projection")

    def extend(*_: Any, **__: Any) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(TokenTrees, "extend", extend)
    for _ in range(2):  # the second: of the same process, whose signal came already
        with pytest.raises(SystemExit) as stop:
            cli.guard(lambda: run_job(made))
        assert stop.value.code == stopping.STOPPED
    assert capfd.readouterr().err.splitlines()[-1].startswith("stopped by SIGTERM: what is finished is kept")
    assert not list(tmp_path.rglob("result.json")) and not list(tmp_path.rglob(".writing-*"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR2"])
def test_a_signal_while_loading_ends_with_143_and_one_line(name: str, tmp_path: Path) -> None:
    """Through the real command line, before the libraries are there."""
    code = (
        "import os, runpy, signal, sys, importlib.abc\n"
        "class Late(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        f"        if name == 'hydra': os.kill(os.getpid(), signal.{name})\n"
        "sys.meta_path.insert(0, Late())\n"
        f"sys.argv = ['run.py', 'model=tiny_llama', 'paths.outputs={tmp_path}']\n"
        f"runpy.run_path({str(REPOSITORY / 'run.py')!r}, run_name='__main__')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert ended.returncode == stopping.STOPPED
    assert ended.stderr == f"stopped by {name}: what is finished is kept; the same line continues\n"
    assert not ended.stdout and not list(tmp_path.iterdir())
