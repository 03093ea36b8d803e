"""The files of one job on classes: result.json, metrics.jsonl, predictions.jsonl, figures, report.html."""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from torch import Tensor

from emo.core.metric_keys import metric_key
from emo.core.metrics import headline
from emo.core.stats import Estimate, smallest_p
from emo.pipeline.labelled import ClassJob
from emo.report import class_notes as notes
from emo.report import elements as page
from emo.report.charts.job import job_charts
from emo.report.charts.section import drawable
from emo.report.class_figures import draw
from emo.report.html import write_report
from emo.report.titles import model_title
from emo.results import class_results as results
from emo.results.evidence import Evidence
from emo.results.exploded import exploded_classes
from emo.results.job_findings import job_findings
from emo.results.result_file import comparison_line, finish, header, metric_row, shown_p, write_rows
from emo.results.values import write_values

SHOWN = 10  # replies of an induction on the page


def write_result(job: ClassJob, folder: Path, command: str, start: float) -> dict[str, Any]:
    """Run the stages of ``job``, write its folder whole or not at all, and return the content of result.json.

    Args:
        job: what to run.
        folder: where it goes; replaced as a whole.
        command: the line that starts the same job again, for the report.
        start: of the job, on `time.perf_counter`.
    """
    frame = results.long_table(job)
    found, tests = results.estimates(job, frame), results.comparisons(job, frame)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        write_rows(scratch / "metrics.jsonl", [metric_row(a, m, x) for a, ms in found.items() for m, x in ms.items()])
        write_rows(scratch / "predictions.jsonl", list(_rows(job)))
        write_values(frame, scratch)
        figures = draw(job, found, scratch)
        result = header("done", job, start)
        result |= {"arms": {arm: {m: x.to_dict() for m, x in ms.items()} for arm, ms in found.items()}}
        result["settings"] = {arm.name: dict(arm.settings) for arm in job.arms if arm.settings}
        evidence, counts = Evidence.of_items(job.splits.test), exploded_classes(job)
        tested = sum(row["p"] is not None for row in tests)
        least = smallest_p(evidence.distinct, tested, job.config.evaluator.bootstrap)
        result |= {"comparisons": tests, "smallest_p": least, "chosen": None}
        result |= {"clusters": evidence.to_dict(), "exploded": counts}
        result |= {"sets": notes.sets(job), "change": notes.changes(job), "loops": notes.loops(job)}
        result["overlaps"] = {
            name: {"rows": own.rows, "jaccard": _cells(own.values), "chance": own.chance}
            for name, own in notes.overlaps(job).items()
        }
        result |= {key: getattr(job.splits, key) for key in ("left_out", "matched", "several", "joined")}
        facts = notes.facts(job)
        result |= {"facts": facts, "figures": [{"file": path.name, "caption": text} for path, text in figures]}
        doubtful = notes.doubts(job, found)
        columns = [m for m in headline() if any(m in metrics for metrics in found.values())]
        c = job.config
        write_report(
            scratch,
            title=f"{c.intervention.kind} ({c.selector.name}) on {model_title(c.model)}, {c.dataset.name}",
            command=command,
            config_yaml=OmegaConf.to_yaml(OmegaConf.structured(c)),
            summary_rows=[{"arm": arm, **{m: ms.get(m) for m in columns}} for arm, ms in found.items()],
            columns=["arm", *columns],
            notes=[*(comparison_line(row, least) for row in tests), *notes.remarks(job, counts, least)],
            too_few=evidence.few,
            figures=figures,
            samples=[],
            seconds=result["wall_s"],
            versions=result["versions"],
            facts=facts,
            findings=doubtful,
            found=job_findings(result, "class", "logprob_margin" if doubtful else None),
            charts=drawable(
                lambda: job_charts(
                    found,
                    job.names,
                    shown_p(tests, least),
                    result["settings"],
                    of="class",
                    chance={"accuracy": 1 / len(job.names)},
                    first="logprob_margin" if doubtful else None,
                )
            ),
            tables=_tables(job, found),
        )
        finish(scratch, folder, result, job)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return result


def _cells(values: np.ndarray) -> list[list[float | None]]:
    return [[None if math.isnan(x) else round(float(x), 5) for x in row] for row in values]


def _rows(job: ClassJob) -> list[dict[str, Any]]:
    """Return a row per arm, condition and test text: its class, what it is called, and the score of every name."""
    rows = []
    for arm in job.arms:
        scores = job.predictions[arm.name].tensors["scores"].double().numpy()
        for k, (seed, target) in enumerate(arm.conditions(len(job.names))):
            edited = None if target is None else job.names[target]
            for item, own in zip(job.splits.test, scores[k], strict=True):
                of = int(results.called(own[None])[0])
                named = None if of == results.UNPARSED else job.names[of]
                pairs = zip(job.names, own.tolist(), strict=True)
                told = {name: round(x, 5) if math.isfinite(x) else None for name, x in pairs}
                rows.append(
                    {"arm": arm.name, "seed": seed, "edited": edited, "sample": item.id, "label": item.label,
                     "called": named, "scores": told}
                )  # fmt: skip
    return rows


def _tables(job: ClassJob, found: dict[str, dict[str, Estimate]]) -> str:
    """Return the tables per edited class, precision and recall, the loops, and replies of an induction."""
    return (
        page.section("By edited class", _by_class(job, found))
        + page.section("Precision and recall", _precision(job))
        + page.section("Feedback loop, on the dev texts", _loops(job))
        + page.section("Replies written under the edit", _replies(job))
    )


def _by_class(job: ClassJob, found: dict[str, dict[str, Estimate]]) -> str:
    metrics = [m for m in ("accuracy", "logprob_margin", "induced") if m in found["none"]]
    rows: list[list[object]] = [
        [f"{arm}: {metric}", *(ms.get(metric_key(metric, name)) for name in job.names)]
        for metric in metrics
        for arm, ms in found.items()
    ]
    return page.table(["arm", *job.names], rows)


def _precision(job: ClassJob) -> str:
    shown = [arm for arm in job.arms if arm.pick in ("none", "own")][: 1 + SHOWN]
    rows: list[list[object]] = []
    for arm in shown:
        for edited, made in results.predicted(job, arm.name):
            cells = [f"{_two(p)} / {_two(r)}" for p, r in zip(made.precision, made.recall, strict=True)]
            rows.append([arm.name if edited == "-" else f"{arm.name}, {edited}", *cells, f"{made.accuracy:.2f}"])
    return page.table(["precision / recall of arm, edited class", *job.names, "accuracy"], rows)


def _two(share: Tensor) -> str:
    return "-" if bool(share.isnan()) else f"{float(share):.2f}"


def _loops(job: ClassJob) -> str:
    rows: list[list[object]] = []
    for row in notes.loops(job):
        last = row["rounds"][-1]
        told = "yes" if row["reached"] else "no"
        rows.append(
            [f"{row['arm']}, {row['class']}", str(len(row["rounds"])), f"{last['alpha']:.1f}", f"{last['tau']:.2f}",
             str(last["units"]), f"{row['base']:.1f}", f"{last['target']:.1f}", f"{last['off']:.1f}", told]
        )  # fmt: skip
    head = ["arm, class", "rounds", "alpha*", "tau*", "neurons", "dev before", "dev after", "dev, others", "reached"]
    return page.table(head, rows) if rows else ""


def _replies(job: ClassJob) -> str:
    rows: list[list[object]] = []
    for arm, made in job.written.items():
        picked = [r for r in made.rows if r["seed"] == 0]
        for row in picked[:: max(1, len(picked) // SHOWN)][:SHOWN]:
            rows.append([f"{arm}, {row['class'] or '-'}", row["label"], row["called"], row["reply"]])
    return page.table(["arm, edited class", "text's class", "reply called", "reply"], rows) if rows else ""
