"""What decides whether a job is already done: scientific keys and data, never how or where it runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jobs import config

from emo.config.error_text import known_keys
from emo.config.schema import Config
from emo.core.store import Artifact
from emo.data.texts import TEXTS
from emo.measure import batch as measure
from emo.model.load import load
from emo.pipeline import extracted
from emo.pipeline.scenario import Job

pytestmark = pytest.mark.usefixtures("quiet")
OTHER: dict[str, Any] = {  # a second valid value of every key that is not a number
    "batch_size": 7,
    "console": "rich",
    "device": "auto",
    "cluster.jobs_per_task": 3,
    "cluster.wait": False,
    "name": "other",
    "size": "full",
    "task": "status",
    "runs": "outputs/run",
    "dtype": "bfloat16",
    "model.source": "tiny",
    "model.id": "qwen2",
    "model.chat": "plain",
    "model.name": "other",
    "model.revision": "main",
    "model.device_map": "auto",
    "dataset.themes": ["Work/Job"],
    "dataset.valences": ["positive"],
    "dataset.leave_out": "Work/Job",
    "dataset.limit": 1,
    "emotions.names": ["anger", "fear", "sadness"],
    "emotions.words": {"fear": "a fear of heights"},
    "emotions.descriptions": {"fear": "Expecting harm."},
    "elicitation.words": {"fear": "a fear of heights"},
    "elicitation.template": "persona",
    "elicitation.separator": "space",
    "elicitation.accept": "judged",
    "elicitation.groups": "available",
    "elicitation.judge": "classifier",
    "generation.decoding": "paper",
    "directions.baseline": "neutral",
    "directions.tokens": "reply_mean",
    "directions.last": "normed",
    "attribution.score_at": "mlp_input",
    "attribution.check": 2,
    "circuit.allow_other_weights": True,
    "circuit.delta_baseline": "neutral",
    "circuit.budget": 9,
    "circuit.split": "auto",
    "circuit.floor": [1, 1],
    "circuit.allocation": "uniform",
    "circuit.layers": "1-2",
    "circuit.dose": "rel",
    "circuit.head_tokens": "all",
    "circuit.stable": "0-1",
    "circuit.alphas": [0.1],
    "circuit.sigma": "residual",
    "circuit.final": "normed",
    "intervention.kind": "prompt_steer",
    "intervention.k": [2, 4],
    "intervention.pool": "global",
    "intervention.layers": "2-3",
    "intervention.dose": "rel",
    "intervention.tokens": "all",
    "intervention.select.alpha": [0.25],
    "intervention.select.layers": ["all"],
    "intervention.select.scale": [0.25],
    "intervention.select.prompts": 2,
    "intervention.select.per": "emotion",
    "control.arms": [],
    "control.units": [],
    "control.circuits": [],
    "evaluator.model": "other",
    "evaluator.labels": ["joy:happiness"],
    "evaluator.questions": ["blind"],
    "evaluator.name": "projection",
    "selector.name": "cas",
    "selector.site": "neuron",
    "selector.tokens": "last",
    "selector.assignment": "argmax",
    "intervention.op": "mean",
    "intervention.of": "population",
    "evaluator.answer": "parsed",
    "evaluator.score": "mean",
    "tracker.name": "wandb",
    "tracker.mode": "online",
    "tracker.project": "other",
    "tracker.entity": "team",
    "tracker.group": "other",
    "tracker.tags": ["other"],
    "paths.outputs": "elsewhere",
    "paths.store": "elsewhere",
}


CIRCUIT_KEYS = "delta_baseline budget split floor cap allocation layers "
CIRCUIT_KEYS += "dose head_tokens stable alphas sigma final"
UNCHANGED = {  # keys that change no number; written out: one that the code forgets must not leave this list with it
    "model.name": "a label; the address holds source, id and commit",
    "model.revision": "resolved to a commit, which the address holds; tiny models have none",
    "model.device_map": "where weights lie in memory",
    "model.source": "has one value for a tiny model; another source is another commit",
    "dataset.name": "a label of the option; the address holds the sha256 of the files",
    "dataset.path": "the address holds the sha256 of the file",
    "dataset.test_path": "the address holds the sha256 of the file",
    "dataset.kind": "of labelled texts: test_labelled",
    "dataset.text": "of labelled texts",
    "dataset.label": "of labelled texts",
    "dataset.literal": "of labelled texts",
    "dataset.group": "of labelled texts",
    "dataset.labels": "of labelled texts",
    "dataset.task": "of labelled texts",
    "dataset.delimiter": "of labelled texts",
    "dataset.header": "of labelled texts",
    "dataset.multilabel": "of labelled texts",
    "intervention.k": "of neurons and heads: test_unit_jobs",
    "intervention.scale": "of neurons and heads, and of circuits",
    "intervention.pool": "of neurons and heads",
    "control.units": "of neurons and heads",
    "attribution.score_at": "of neurons and heads",
    "attribution.check": "of neurons and heads",
    "circuit.path": "of circuits: test_circuit_addresses",
    "circuit.allow_other_weights": "of circuits",
    **dict.fromkeys((f"circuit.{key}" for key in CIRCUIT_KEYS.split()), "of circuits"),
    "control.circuits": "of circuits",
    "intervention.select.scale": "of circuits",
    "selector.name": "of jobs on classes: test_class_jobs",
    "selector.site": "of jobs on classes",
    "selector.tokens": "of jobs on classes",
    "selector.ratio": "of jobs on classes",
    "selector.filter": "of jobs on classes",
    "selector.assignment": "of jobs on classes",
    "selector.space": "of jobs on classes",
    "adaptive.alpha": "of jobs on classes",
    "adaptive.alpha_step": "of jobs on classes",
    "adaptive.tau": "of jobs on classes",
    "adaptive.tau_step": "of jobs on classes",
    "adaptive.margin": "of jobs on classes",
    "adaptive.rounds": "of jobs on classes",
    "evaluator.answer": "of jobs on classes",
    "evaluator.score": "of jobs on classes",
    "intervention.op": "of jobs on classes",
    "intervention.ratio": "of jobs on classes",
    "intervention.of": "of jobs on classes",
    "intervention.live": "of jobs on classes",
    "intervention.attenuation": "of jobs on classes",
    "intervention.gain": "of jobs on classes",
    "evaluator.base_url": "the address of a judge's labels holds it, resolved",
    "evaluator.structured": "how a judge is asked, not what",
    "evaluator.concurrency": "how a judge is asked",
    "evaluator.timeout_s": "how a judge is asked",
    "evaluator.retries": "how a judge is asked",
    "evaluator.price_input": "how a judge is asked",
    "evaluator.price_output": "how a judge is asked",
}
RUNTIME = (  # where, not what
    *("batch_size", "cluster", "console", "device", "gc", "paths", "runs", "name", "size", "task", "tracker"),
)
KEYS = known_keys()
SCIENTIFIC = [key for key in KEYS if key.partition(".")[0] not in RUNTIME and key not in UNCHANGED]


def at(section: Any, key: str) -> Any:
    """Return the value of a dotted key."""
    for part in key.split("."):
        section = getattr(section, part)
    return section


def changed(made: Config, key: str) -> Config:
    """Return a configuration that differs in one key."""
    value = at(made, key)
    other: Any = OTHER[key] if key in OTHER else value + 1 if isinstance(value, int) else value / 2
    assert other != value or key in UNCHANGED, key
    while key:
        path, _, name = key.rpartition(".")
        whole = at(made, path) if path else made
        other, key = replace(whole, **{name: other}), path
    return other


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
