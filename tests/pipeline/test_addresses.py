"""What decides whether a job is already done: scientific keys and data, never how or where it runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.changed import UNCHANGED, changed
from support.jobs import config

from emo.config.error_text import known_keys
from emo.config.schema import Config
from emo.core.store import Artifact
from emo.data.texts import TEXTS
from emo.measure import batch as measure
from emo.model.load import load
from emo.pipeline import extracted
from emo.pipeline.scenario import Job

pytestmark = pytest.mark.usefixtures("quiet")


RUNTIME = (  # where, not what
    *("batch_size", "build", "cluster", "console", "device", "gc", "paths", "runs", "name", "size", "task", "tracker"),
    "agreement",
)
KEYS = known_keys()
SCIENTIFIC = [key for key in KEYS if key.partition(".")[0] not in RUNTIME and key not in UNCHANGED]


@pytest.fixture
def made(tmp_path: Path) -> Config:
    """Return the configuration that the others differ from."""
    return config(tmp_path, "dataset.limit=2")


@pytest.mark.parametrize("key", SCIENTIFIC)
def test_every_scientific_key_changes_the_address(key: str, made: Config) -> None:
    """A key that is forgotten would return the numbers of another job."""
    assert Job(changed(made, key)).result_address != Job(made).result_address


@pytest.mark.parametrize("key", [key for key in KEYS if key.partition(".")[0] in RUNTIME])
def test_no_runtime_key_changes_any_address(key: str, made: Config) -> None:
    """A larger batch or another folder must not start the work anew."""
    one, other = Job(made), Job(changed(made, key))
    assert one.result_address == other.result_address
    assert one.directions_address == other.directions_address
    assert one.attribution_address == other.attribution_address
    assert one._selection_key == other._selection_key


def test_keys_that_change_nothing_are_known(made: Config, tmp_path: Path) -> None:
    """Each exception has a reason, is still a key, and does leave the address alone."""
    assert set(UNCHANGED) <= set(KEYS)
    for key in ("model.name", "model.revision", "model.device_map", "model.source"):
        assert Job(changed(made, key)).result_address == Job(made).result_address, key
    copies = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        main, held_out = tmp_path / name / f"{name}.jsonl", tmp_path / name / "test.jsonl"
        main.write_bytes((TEXTS / "sev.jsonl").read_bytes())
        held_out.write_bytes((TEXTS / "sev_test.jsonl").read_bytes())
        copies.append(config(tmp_path, f"dataset.path={main}", f"dataset.test_path={held_out}", "dataset=jsonl"))
    assert len({Job(c).result_address for c in (*copies, made)}) == 1


@pytest.mark.parametrize(
    "same",
    [
        ("dtype=float32", "dtype=auto"),
        ("intervention.layers=1-2", "intervention.layers=0.25-0.5"),
        ("intervention=circuit circuit.layers=1-2", "intervention=circuit circuit.layers=0.25-0.5"),
        ("intervention=circuit circuit.budget=10x", "intervention=circuit circuit.budget=80"),
        ("intervention=circuit intervention.scale=1", "intervention=circuit intervention.scale=1.0"),
    ],
)
def test_two_ways_to_say_the_same(same: tuple[str, str], tmp_path: Path) -> None:
    """The resolved dtype, blocks and budget count, not how they were written."""
    one, other = (Job(config(tmp_path, *words.split())).result_address for words in same)
    assert one == other


def edited_copy(path: Path, folder: Path) -> Path:
    """Write a copy in which the last word of the last scenario differs."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[-1]["scenario"] = rows[-1]["scenario"].rstrip(".") + " today."
    target = folder / f"edited_{path.name}"
    target.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return target


def test_one_edited_line_of_data_changes_the_address(made: Config, tmp_path: Path) -> None:
    """Even a scenario that ``dataset.limit`` leaves out: which ones are in hangs on the whole file."""
    files = {"path": TEXTS / "sev.jsonl", "test_path": TEXTS / "sev_test.jsonl"}
    for key, path in files.items():
        given = files | {key: edited_copy(path, tmp_path)}
        words = [f"dataset.{k}={v}" for k, v in given.items()]
        assert Job(config(tmp_path, "dataset=jsonl", *words)).result_address != Job(made).result_address, key


def test_the_test_split_decides_no_direction_and_no_strength(tmp_path: Path) -> None:
    """With other test scenarios, directions and selection keep their addresses."""
    words = ("dataset=jsonl", f"dataset.path={TEXTS / 'sev.jsonl'}", "dataset.limit=null", "intervention.alpha=auto")
    one, other = (
        Job(config(tmp_path, *words, f"dataset.test_path={path}"))
        for path in (TEXTS / "sev_test.jsonl", edited_copy(TEXTS / "sev_test.jsonl", tmp_path))
    )
    assert one.splits.test != other.splits.test
    assert one.directions_address == other.directions_address
    assert one.attribution_address == other.attribution_address
    assert one._selection_key == other._selection_key
    assert one.result_address != other.result_address


def test_a_line_moved_between_files_changes_the_address(tmp_path: Path) -> None:
    """The first test scenario moved to the end of the extraction file is another experiment."""
    main, held_out = (TEXTS / name for name in ("sev.jsonl", "sev_test.jsonl"))
    lines = held_out.read_text(encoding="utf-8").splitlines(keepends=True)
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    a.write_text(main.read_text(encoding="utf-8") + lines[0], encoding="utf-8")
    b.write_text("".join(lines[1:]), encoding="utf-8")
    pairs = ((main, held_out), (a, b))
    jobs = [Job(config(tmp_path, "dataset=jsonl", f"dataset.path={p}", f"dataset.test_path={t}")) for p, t in pairs]
    assert jobs[0].result_address != jobs[1].result_address


def test_intervals_of_the_selection_follow_the_bootstrap(tmp_path: Path) -> None:
    """The dev table shows intervals: kept ones of another number of draws are not those that were asked for."""
    one, other = (Job(config(tmp_path, "intervention.alpha=auto", f"evaluator.bootstrap={n}")) for n in (20, 2000))
    assert one._selection_key != other._selection_key


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is computed: directions, and rows by arm and stage."""
    calls: Counter[str] = Counter()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            calls.update([name])
            return function(*args, **kwargs)

        return call

    def arms(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, some: Any, *args: Any, **kwargs: Any) -> Any:
            calls.update(f"{stage} {arm.name}" for arm in some)
            return function(self, some, *args, **kwargs)

        return call

    monkeypatch.setattr(extracted, "extract", counting("directions", extracted.extract))
    for stage in ("project", "reply", "margin"):
        monkeypatch.setattr(measure.Measure, stage, arms(stage, getattr(measure.Measure, stage)))
    prompted = counting("prompted", measure.Measure.project_prompted)
    monkeypatch.setattr(measure.Measure, "project_prompted", prompted)
    load.cache_clear()
    return calls


def run(made: Config) -> Artifact:
    """Compute everything that a sweep over alpha shares or not."""
    job = Job(made)
    assert set(job.projections) == set(job.replies) == set(job.margins) == {arm.name for arm in job.arms}
    return job.directions


def test_a_sweep_over_alpha_computes_only_what_is_new(tmp_path: Path, counted: Counter[str]) -> None:
    """Directions and unedited arms once; an arm under another name, or in a list, is the same arm."""
    steered, stages = ("steer", "random", "shuffled"), ("project", "reply", "margin")
    first = run(config(tmp_path, "intervention.alpha=1"))
    assert counted == Counter({"directions": 1, "prompted": 1, "reply prompt": 1, "margin prompt": 1}) + Counter(
        f"{stage} {arm}" for stage in stages for arm in ("none", *steered)
    )
    counted.clear()
    again = run(config(tmp_path, "intervention.alpha=2"))
    assert counted == Counter(f"{stage} {arm}" for stage in stages for arm in steered)
    assert (first.tensors["v"] == again.tensors["v"]).all()
    counted.clear()
    run(config(tmp_path, "intervention.alpha=[1,2,3]"))
    assert counted == Counter(f"{stage} {arm}@alpha=3" for stage in stages for arm in steered)
    counted.clear()
    run(config(tmp_path, "intervention.alpha=2", "batch_size=3", "evaluator.kl_tokens=2", "evaluator.bootstrap=7"))
    assert counted == Counter()
