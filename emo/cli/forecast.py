"""What a line would run, before anything is submitted (``task=plan``): what is there, replies, time, disk, memory.

Nothing is computed and nothing written. A stage's address is known before it runs, so what lies in the store is known
too. Rates are those of the same model in the same store (each artifact's manifest says on which machine and how long);
what was never measured is called so, and where replies end is not known, so time is a range.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from emo.cli.plan import Plan, Planned
from emo.cli.rates import Rates, duration, read_rates, size
from emo.config.kinds import on_classes
from emo.config.read_keys import at_divergence
from emo.core import console
from emo.core.sealed import DamagedError, read_sealed
from emo.core.store import Artifact, Store
from emo.edit.base import Arm
from emo.edit.class_arms import ClassArm
from emo.measure.equal_divergence import TOKENS, AtDivergence
from emo.measure.strength_tuning import Choice
from emo.model.demand import demand_lines
from emo.pipeline.jobs import AnyJob
from emo.pipeline.labelled import ClassJob
from emo.pipeline.scenario import Job
from emo.results.result_file import find_result

STAGES = ("replies", "written", "projections", "predictions", "margins", "damage", "labels")
EVALUATIONS = 5  # of a strength that is found at a divergence: 3 to 8
WRITTEN = ("replies", "written", "selection")  # stages that generate


class Work(NamedTuple):
    """What one artifact takes: stage, address, whether it is there, rows, and tokens that each may have at most."""

    stage: str
    key: str
    there: bool
    rows: int
    tokens: int


class _Seen(Exception):  # noqa: N818 - no error: a stage was asked for, and that is all
    """The addresses of a stage are known."""


class _Looking(Store):
    """A store that only tells what is there."""

    def __init__(self, root: str | Path) -> None:
        super().__init__(root)
        self.asked: dict[str, tuple[str, str]] = {}  # name of the arm -> stage and address, of what was asked for last

    def there(self, stage: str, key: str) -> bool:
        return (self.folder(stage, key) / "manifest.json").is_file()

    def meta(self, stage: str, key: str) -> dict[str, Any] | None:
        """Return the small dictionary of an artifact; None where it is not there or damaged."""
        try:
            manifest = read_sealed(self.folder(stage, key) / "manifest.json")
            return dict(manifest["meta"]) if manifest["address"] == key else None
        except (DamagedError, KeyError):
            return None

    def _several(
        self, places: dict[str, tuple[str, str]], configs: dict[str, dict[str, Any]],
        compute: Callable[[list[str]], dict[str, Artifact]],
    ) -> dict[str, Artifact]:  # fmt: skip
        del configs, compute
        metas = {name: self.meta(*place) for name, place in places.items() if place[0] == "selection"}
        if metas and all(meta is not None for meta in metas.values()):
            return {name: Artifact(meta=meta or {}) for name, meta in metas.items()}
        self.asked = places
        raise _Seen


class _Looked(Job):
    """A job whose arms are known as far as that is possible without the model."""

    @property
    def selection(self) -> Choice | None:
        """What was chosen on dev; None before that: the arms are as many, their strengths not known."""
        return self._if_there(lambda: super(_Looked, self).selection)

    @property
    def scale_selection(self) -> Choice | None:
        """As above, of the scale of a circuit."""
        return self._if_there(lambda: super(_Looked, self).scale_selection)

    @cached_property
    def searches(self) -> dict[str, Arm]:
        """The arms whose strengths are found at a divergence, by the address of the search."""
        return {}

    def searched(self, arms: Sequence[Arm], target: float, per: str) -> dict[str, AtDivergence]:
        """What was found; before that any strength: the arms are as many."""
        self.searches.update({self.divergence_key(arm, target, per): arm for arm in arms})
        try:
            return super().searched(arms, target, per)
        except _Seen:
            return {arm.name: AtDivergence(1.0, [None], [False], target) for arm in arms}

    def _if_there(self, choice: Callable[[], Choice | None]) -> Choice | None:
        try:
            return choice()
        except _Seen:
            return None

    @property
    def shuffled(self) -> Any:
        """Taken to exist: whether permuted labels leave anything is known once directions are."""
        return ()

    @property
    def circuits(self) -> Any:
        """The blocks of the circuit; its strengths are read from weights."""
        return SimpleNamespace(blocks=tuple(self.circuit_layers)) if self.has_circuit else None

    @property
    def matched_alphas(self) -> list[list[float]]:
        """Not known without weights: such an arm counts as not yet measured."""
        return [[0.0] * len(self.names) for _ in self.scales]


def show(plan: Plan, asked_gb: float | None, line: str) -> None:
    """Print what is there and what is left to do, per model and intervention, and the line that does it.

    Args:
        plan: the jobs; they have been checked.
        asked_gb: memory that the launcher asks for, for each job (GB); None: it asks for none.
        line: to type next.
    """
    groups: dict[tuple[str, str], list[Planned]] = {}
    for planned in plan.jobs:
        c = planned.config
        groups.setdefault((c.model.name, c.intervention.kind), []).append(planned)
    seen: set[str] = set()  # stages that an earlier row of the table counts: jobs share them
    rates: dict[str, Rates] = {}
    rows, every, finished = [], Counter[str](), 0
    spans: list[tuple[float, float] | None] = []
    for (model, kind), jobs in groups.items():
        done = [job for job in jobs if find_result(plan.root.parent, plan.root.name, job.address, copy=False)]
        finished += len(done)
        work: list[Work] = []
        for planned in jobs:
            job = look(planned.config)
            if model not in rates:
                rates[model] = read_rates(job.store.root, job.store.made_by or {})
            if planned in done:
                continue
            for one in stages(job):
                if one.key not in seen:
                    seen.add(one.key)
                    work.append(one)
        left = [one for one in work if not one.there]
        span, disk = rates[model].seconds(left), rates[model].bytes(left)
        spans.append(span)
        written = [one for one in work if one.stage in WRITTEN]
        todo = sum(one.rows for one in written if not one.there)
        every.update(jobs=len(jobs), replies=todo, rows=sum(one.rows for one in left), disk=disk or 0)
        every["unmeasured disk"] += disk is None
        rows.append([model, kind, len(jobs), len(done), f"{len(work) - len(left)} of {len(work)}",
                     f"{todo:,} of {sum(one.rows for one in written):,}", duration(span), size(disk)])  # fmt: skip
    whole = None if None in spans else (sum(x[0] for x in spans if x), sum(x[1] for x in spans if x))
    total_disk = None if every["unmeasured disk"] else every["disk"]
    if len(rows) > 1:
        rows.append(
            ["all", "", len(plan.jobs), finished, "", f"{every['replies']:,}", duration(whole), size(total_disk)]
        )
    columns = ["model", "intervention", "jobs", "done", "stages there", "replies to write", "time, one after another",
               "disk"]  # fmt: skip
    console.table(f"plan of {len(plan.jobs)} jobs: nothing has started", columns, rows)
    for model in rates:
        console.say(f"{model}: {rates[model].told()}")
    if any(span is None or span[1] > 0 for span in spans):
        console.note(
            "time and disk are of the test split and of choosing strengths on dev (its grid may be extended); "
            "directions and circuits come on top"
        )
    for model in rates:
        config = next(job.config for job in plan.jobs if job.config.model.name == model)
        for text in demand_lines(look(config).spec, config, asked_gb):
            console.say(text)
    console.say(f"to run it: {line}" if finished < len(plan.jobs) else f"all is done; to see the table: {line}")


def look(config: Any) -> AnyJob:
    """Return a job that computes nothing: of its stages only addresses are known."""
    job: AnyJob = ClassJob(config) if on_classes(config) else _Looked(config)
    by = job.store.made_by
    job.store = _Looking(config.paths.store)
    job.store.made_by = by
    return job


def stages(job: AnyJob) -> list[Work]:
    """Return what the stages of a looked-at job on its test split take, an entry for each arm."""
    names: Sequence[str] = ("predictions", "written")
    found: list[Work] = []
    if isinstance(job, Job):
        found += _chosen(job)
        names = ("projections",) if job.config.evaluator.name == "projection" else STAGES
    for name in names:
        store = job.store
        assert isinstance(store, _Looking)
        store.asked = {}
        with contextlib.suppress(_Seen):
            getattr(job, name, None)
        arms = {arm.name: arm for arm in job.arms}
        for arm, (stage, key) in store.asked.items():
            if stage in STAGES and arm in arms:
                found.append(
                    Work(stage, key, store.there(stage, key), _rows(job, stage, arms[arm]), _tokens(job, stage))
                )
    return found


def _chosen(job: Job) -> list[Work]:
    """Return what choosing strengths on dev writes at least: a reply per prompt, emotion, strength and range."""
    given, made = job.config.intervention, []
    if job.tuned:
        alphas = given.select.alpha if given.alpha == "auto" else given.alpha
        tried = len(alphas) if isinstance(alphas, list) else 1
        made.append((job._selection_key, tried * (len(job.layer_choices) if job.layers is None else 1)))
    if job.scale_tuned:
        made.append((job._scale_selection_key, len(given.select.scale)))
    store, each = job.store, len(job.dev_samples) * len(job.names)
    assert isinstance(store, _Looking)
    limit = job.config.generation.max_new_tokens
    found = [Work("selection", key, store.there("selection", key), each * tries, limit) for key, tries in made]
    if isinstance(job, _Looked) and at_divergence(job.config):
        _ = job.arms
        for key, arm in job.searches.items():
            rows = EVALUATIONS * len(job.dev_samples) * len(arm.conditions(len(job.names)))
            found.append(Work("selection", key, store.there("selection", key), rows, TOKENS))
    return found


def _rows(job: AnyJob, stage: str, arm: Arm | ClassArm) -> int:
    """Return how many rows a stage gives for an arm; of an induction at most: texts of the class are left out."""
    texts, classes = len(job.splits.test), len(job.names)
    if isinstance(arm, ClassArm):
        return texts * len(arm.conditions(classes))
    conditions = arm.conditions(classes, scored=stage == "projections")
    if stage == "margins":  # a condition without an emotion is asked for each of them
        return texts * sum(classes if emotion is None else 1 for _, emotion in conditions)
    return texts * len(conditions)


def _tokens(job: AnyJob, stage: str) -> int:
    return job.config.generation.max_new_tokens if stage in WRITTEN else 0
