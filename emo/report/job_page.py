"""The folder of one job on scenarios: result.json, metrics.jsonl, samples.jsonl, figures, report.html.

They are written to a temporary folder that is renamed when it is complete.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from emo.core.metrics import headline
from emo.core.stats import Estimate, smallest_p
from emo.edit.units import UnitArm
from emo.measure import reply_metrics, unjudged
from emo.measure.accuracy import label_classes, off_target
from emo.measure.strength_tuning import Choice
from emo.pipeline import ranking_check
from emo.pipeline.finished import FROM_WEIGHTS, FinishedJob, from_weights
from emo.pipeline.scenario import Job
from emo.report import (
    circuit_results,
    directions_page,
    divergence_page,
    remarks,
    stability_page,
    unit_page,
    unit_results,
)
from emo.report.accuracy_page import accuracy_section
from emo.report.charts.job import job_charts
from emo.report.charts.section import drawable
from emo.report.corrected_section import refresh
from emo.report.figures import draw
from emo.report.html import write_report
from emo.report.replies import Replies
from emo.report.titles import model_title
from emo.results import equal_divergence
from emo.results.arm_order import base_name
from emo.results.estimates import comparisons, estimates, long_table, own_values
from emo.results.evidence import Evidence
from emo.results.exploded import exploded
from emo.results.geometry import geometry
from emo.results.job_findings import job_findings
from emo.results.result_file import comparison_line, finish, header, metric_row, shown_p, write_rows
from emo.results.stability import stability
from emo.results.table import OWN_METRICS
from emo.results.terms import terms, verdict
from emo.results.values import write_values

SHOWN_SAMPLES = 10
PAPER_EMOTIONS = 6


def write_result(job: Job, folder: Path, command: str, start: float) -> dict[str, Any]:
    """Run the stages of ``job``, write its folder, and return the content of result.json.

    Args:
        job: what to run.
        folder: where it goes; replaced as a whole.
        command: the line that starts the same job again, for the report.
        start: of the job, on `time.perf_counter`.
    """
    shape = geometry(job)
    frame = long_table(job)
    found = estimates(job, frame)
    tests = [row | {"terms": terms(found, row["arm"], row["against"])} for row in comparisons(job, frame)]
    verdicts = verdict({"alpha": job.selection, "scale": job.scale_selection}, job.config.intervention.select)
    diverging = equal_divergence.described(job)
    verdicts += equal_divergence.doubts(diverging)
    tests = equal_divergence.told_in(tests, diverging)
    evidence, counts = Evidence.of_samples(job.splits.test), exploded(job)
    tested = sum(row["p"] is not None for row in tests)
    least = smallest_p(evidence.distinct, tested, job.config.evaluator.bootstrap)
    drawn = shown_p(tests, least)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        write_rows(scratch / "metrics.jsonl", [metric_row(a, m, x) for a, ms in found.items() for m, x in ms.items()])
        rows_of_replies = _sample_rows(job)
        write_rows(scratch / "samples.jsonl", rows_of_replies)
        write_values(frame, scratch)
        (scratch / "geometry.json").write_text(json.dumps(shape, allow_nan=False), encoding="utf-8")
        figures = draw(job, found, shape, drawn, scratch)
        beforehand = directions_page.write(job, found, scratch)
        figures += beforehand.figures
        alike = _alike(job)
        result = header("done", job, start)  # seconds count what a second model took
        if alike:
            result["stability"] = alike
            figures += stability_page.figures(alike, model_title(job.config.model), scratch)
        if own := reply_metrics.load_metrics(job.config):
            result[OWN_METRICS] = reply_metrics.described(own)
        result |= {"arms": {arm: {m: x.to_dict() for m, x in ms.items()} for arm, ms in found.items()}}
        result["settings"] = {arm.name: dict(arm.settings) for arm in job.arms if arm.settings}
        classes = label_classes(job.names, [row for rows in job.labels.values() for row in rows])
        left_out = {arm: unjudged.count(job.config.evaluator, rows) for arm, rows in job.labels.items()}
        if left_out:
            result["unjudged"] = left_out
        if any(row["label"] is not None for rows in job.labels.values() for row in rows):
            off = {arm: off_target(rows, job.names, classes) for arm, rows in job.labels.items()}
            result["off_target"] = {"labels": classes, "arms": {arm: _shares(x.matrix) for arm, x in off.items()}}
        rows = unit_results.ratios(job, frame) if job.on is not None else []
        if rows:
            result["ratios"] = rows
        checked = ranking_check.rows(job)
        told_ranking = {"ranking check": ranking_check.line(checked, str(job.on))} if checked else {}
        if checked:
            result["ranking_check"] = checked
        result |= {"comparisons": tests, "smallest_p": least, "chosen": _chosen(job.selection), "verdicts": verdicts}
        result |= {"clusters": evidence.to_dict(), "exploded": counts, "languages": remarks.languages(job)}
        facts = remarks.facts(job) | (unit_results.facts(job) if job.on is not None else {}) | told_ranking
        if shuffled := remarks.shuffled_facts(job):
            result["shuffled"], facts["shuffled control"] = shuffled, remarks.shuffled_line(shuffled)
        if diverging:
            result["divergence"] = diverging
        if job.has_circuit:
            facts |= circuit_results.facts(job)
            result["chosen_scale"] = _chosen(job.scale_selection)
            result[FROM_WEIGHTS] = from_weights(job)
            job.circuit.save(scratch / "circuit")
        shown = [{"file": path.name, "caption": caption} for path, caption in figures]
        result |= {"facts": facts, "figures": shown}  # for the report of a sweep
        columns = [m for m in headline() if any(m in metrics for metrics in found.values())]
        c, told = job.config, list(dict.fromkeys(sample.valence for sample in job.splits.test))
        write_report(
            scratch,
            title=f"{c.intervention.kind} on {model_title(c.model)}, {c.dataset.name}",
            command=command,
            config_yaml=OmegaConf.to_yaml(OmegaConf.structured(c)),
            summary_rows=[{"arm": arm, **{m: ms.get(m) for m in columns}} for arm, ms in found.items()],
            columns=["arm", *columns],
            notes=[*(comparison_line(row, least) for row in tests), *remarks.notes(job, counts, least)],
            too_few=evidence.few,
            figures=figures,
            samples=_report_samples(job),
            seconds=result["wall_s"],
            versions=result["versions"],
            facts=facts,
            findings=verdicts,
            found=job_findings(result),
            charts=drawable(
                lambda: job_charts(found, job.names, drawn, result["settings"], chance=_chance(job.names, classes))
            ),
            replies=Replies(rows_of_replies, *_beside(job, tests)),
            tables=divergence_page.section(diverging)
            + beforehand.sections
            + (stability_page.section(alike) if alike else "")
            + unit_page.section(rows)
            + (_published_curves(job, found) if job.on is not None else "")
            + accuracy_section(
                found, list(found), job.names, told, job.spec.id, _published_set(job), left_out, len(classes)
            ),
        )
        finish(scratch, folder, result, job)
        refresh(folder)  # where its replies were labelled before it was written anew
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return result


def _alike(job: Job) -> dict[str, Any] | None:
    """Return the comparison with a second model; one that is judged again has it from the run that it repeats."""
    if job.second is None:
        return None
    return job.result.get("stability") if isinstance(job, FinishedJob) else stability(job)


def _sample_rows(job: Job) -> list[dict[str, Any]]:
    """Return one row per reply of every arm, with what was measured on it."""
    if job.config.evaluator.name == "projection":
        return []
    samples = {s.id: s._asdict() for s in job.splits.test}
    own, rows = own_values(job), []
    for arm, replies in job.replies.items():
        labels = job.labels.get(arm) or [{}] * len(replies)
        for i, (reply, measured, label) in enumerate(zip(replies, job.damage[arm], labels, strict=True)):
            sample = samples[reply["sample"]]
            said = {k: v for k, v in reply.items() if k != "ids"} | label
            scene = {k: sample[k] for k in ("theme", "valence", "scenario", "event")}
            rows.append({"arm": arm, **said, **measured, **{name: own[name][arm][i] for name in own}, **scene})
    return rows


def _report_samples(job: Job) -> list[dict[str, Any]]:
    """Return test prompts spread over the set and the emotions, under all arms (first seed of a control)."""
    if job.config.evaluator.name == "projection":
        return []
    test, names = job.splits.test, job.names
    count = min(SHOWN_SAMPLES, len(test))
    out = []
    for n in range(count):
        sample, emotion = test[n * len(test) // count], names[n % len(names)]
        replies = [
            {"arm": arm.name, "text": reply["reply"], "degenerate": measured["degenerate"], "label": _label(label)}
            for arm in job.arms
            for reply, measured, label in zip(
                job.replies[arm.name],
                job.damage[arm.name],
                job.labels.get(arm.name) or [{}] * len(job.replies[arm.name]),
                strict=True,
            )
            if reply["sample"] == sample.id and reply["emotion"] in (emotion, None) and reply["seed"] == 0
        ]
        scene = {"scenario": sample.scenario, "event": sample.event, "valence": sample.valence}
        out.append({**scene, "emotion": emotion, "replies": replies})
    return out


def _beside(job: Job, tests: list[dict[str, Any]]) -> tuple[str, str | None]:
    """Return the arm that the reply browser shows first, what the job is about, and the unedited one beside it."""
    arms = [arm.name for arm in job.arms]
    first = next((row["arm"] for row in tests), arms[-1])
    return first, "none" if "none" in arms and first != "none" else None


def _chance(names: list[str], classes: list[str]) -> dict[str, float]:
    """Return what labels drawn at random reach."""
    shares = dict.fromkeys(("accuracy", "clean_accuracy"), 1 / len(classes))
    return shares | {"forced_accuracy": 1 / len(names)}


def _shares(matrix: np.ndarray) -> list[list[float | None]]:
    return [[None if np.isnan(x) else round(float(x), 6) for x in row] for row in matrix]


def _published_curves(job: Job, found: dict[str, dict[str, Estimate]]) -> str:
    c = job.config
    everywhere = c.intervention.pool == "per_layer" and len(job.edited_layers) == job.spec.n_layers
    asked = (c.elicitation.template, c.directions.baseline, c.directions.tokens, c.attribution.score_at)
    same = asked == ("paper", "emotions_mean", "prompt_last", "residual") and c.intervention.tokens != "all"
    if not (everywhere and same and len(job.names) == PAPER_EMOTIONS):
        return ""
    kind = c.intervention.kind
    arms = [(arm.name, kind, arm.k) for arm in job.arms if isinstance(arm, UnitArm) and arm.alpha == 1.0]
    shown = [arm for arm in arms if base_name(arm[0]) in (kind, "random")]
    return unit_page.published(found, shown, job.names, job.spec.id, _published_set(job))


def _published_set(job: Job) -> str:
    """Return the name under which the paper has numbers for this test set, or one under which it has none."""
    d = job.config.dataset
    if d.path is not None or d.test_path is not None:
        return "own"
    return "sev_test" if d.name == "sev" else d.name


def _label(row: dict[str, Any]) -> str:
    """Return a label with its probability, or whether the style matches; nothing where replies are not labelled."""
    if not row.get("label"):
        return {0: "no match", 1: "match"}.get(row.get("match", -1), "")
    return str(row["label"]) if row["p"] is None else f"{row['label']} {row['p']:.0%}"


def _chosen(choice: Choice | None) -> dict[str, Any] | None:
    return None if choice is None else choice._asdict() | {"layers": list(choice.layers)}
