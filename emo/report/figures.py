"""The figures of one run, each with a caption that says what it shows and on what."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from emo.core.metrics import own_metrics
from emo.core.sealed import digest
from emo.core.stats import Estimate
from emo.find.directions import MLP
from emo.measure.accuracy import label_classes, off_target
from emo.measure.classifier import load_classifier
from emo.pipeline.scenario import Job
from emo.report import circuit_results, first_look, unit_results
from emo.report.plots import (
    accuracy_figure,
    accuracy_metrics,
    arms_figure,
    calibration_figure,
    confusion_figure,
    cosine_figure,
    layer_curves,
    off_target_figure,
    pca_figure,
    probe_figure,
    selection_figure,
)
from emo.report.titles import model_title
from emo.results.estimates import layer_bands

CAPTIONS = {
    "arms": "Every arm on the test prompts; dots are means, bars 95 % intervals over scenarios.",
    "accuracy": (
        "Share of test replies whose label is the target: of all classes, of all and not degenerate, of the emotions "
        "alone; match: told the target, the judge says that the style matches. Bars are 95 % intervals over "
        "scenarios, the line is chance."
    ),
    "off_target": "Rows: the emotion that was asked for or added; columns: what the replies are labelled, in shares.",
    "classifier": "Cross-validated on the shipped reply corpus, scenario by scenario: rows true, columns labelled.",
    "calibration": "How often a label of a given confidence is right, cross-validated; on the diagonal it is honest.",
    "selection": "Settings tried on the dev split only; filled ones stay within the damage bounds, the star is used.",
    "delta_s": (
        "Change of the projection on the direction (resid_post; for heads resid_mid) at the last prompt token, against "
        "no intervention (ablated arms: against the emotion prompt); bands are 95 % intervals over scenarios."
    ),
    "probes": (
        "Macro F1 on held-out scenarios, resid_post at the last prompt token. A within-group difference uses all the "
        "states of its test group, so its F1 answers an easier question."
    ),
    "pca": (
        "Emotion-prompted extraction states. Left: raw. Right: after subtracting the mean over the emotions of the "
        "same scenario and event."
    ),
    "cosines": (
        "With the mean over emotions as baseline the cosines sum to about zero by construction; with a neutral "
        "baseline what all emotions share makes them positive."
    ),
}
PANELS = ("accuracy", "clean_accuracy", "logprob_margin", "delta_s_rel", "delta_s_last", "ppl_ratio", "degenerate")

TOKENS = {"prompt_last": "last prompt token", "reply_mean": "mean over the reply"}

Figure = tuple[Path, str]

# Figures of the directions last drawn in this process: a sweep over strengths would draw the same ones in every job.
_drawn: dict[tuple[str, str, str], tuple[str, bytes, str]] = {}


def draw(
    job: Job,
    found: dict[str, dict[str, Estimate]],
    shape: dict[str, Any],
    tests: list[dict[str, Any]],
    folder: Path,
) -> list[Figure]:
    """Write the figures of a run into ``folder``; returns (path, caption), the most telling first."""
    where = f"{model_title(job.config.model)}, {job.config.dataset.name}"
    n = len(job.splits.test)
    figures: list[Figure] = first_look.figures(job, found, where, folder)
    panels = [m for m in (*PANELS, *own_metrics()) if any(m in metrics for metrics in found.values())]
    listed = job.on is None or len(found) <= unit_results.LISTED_ARMS  # more are drawn as curves
    if job.on is not None:
        figures += unit_results.figures(job, found, where, folder)
    if panels and listed:
        path = arms_figure(
            found, panels, f"Arms on test: {where}, {n} prompts x {len(job.names)} emotions", folder / "arms.png"
        )
        figures.append((path, CAPTIONS["arms"]))
    if listed:
        figures += _accuracy(job, found, where, folder)
    if job.has_circuit:
        figures += circuit_results.figures(job, tests, where, folder)
    for choice, what, strength, name in (
        (job.selection, "Strength", "strength alpha", "selection.png"),
        (job.scale_selection, "Scale of the circuit", "scale lambda", "scale_selection.png"),
    ):
        if choice is not None:
            title = f"{what} chosen on dev: {where}, {len(job.dev_samples)} prompts x {len(job.names)} emotions"
            path = selection_figure(choice.tried, title, folder / name, choice.metric, strength)
            figures.append((path, CAPTIONS["selection"]))
    bands = layer_bands(job) if listed else {}
    if bands:
        title = (
            f"Projection on each emotion's own direction, by block: {where}, {n} prompts x {len(job.names)} emotions"
        )
        path = layer_curves(bands, "decoder block", "delta-s (residual units)", title, "arm", folder / "delta_s.png")
        figures.append((path, CAPTIONS["delta_s"]))
    if shape["probes"]:
        figures.append(_once(job, _probe, shape, where, folder))
    if shape["scatter"]:
        figures.append(_once(job, _scatter, shape, where, folder))
    figures.append(_once(job, _cosines, shape, where, folder))
    return figures


def _accuracy(job: Job, found: dict[str, dict[str, Estimate]], where: str, folder: Path) -> list[Figure]:
    """Draw what the replies are labelled, and how far the labels can be trusted."""
    if not job.labels:
        return []
    arms = list(found)
    title = f"Accuracy by emotion: {where}, labels of evaluator={job.config.evaluator.name}"
    rows = [row for own in job.labels.values() for row in own]
    classes = label_classes(job.names, rows)
    figures = []
    if accuracy_metrics(found, arms):  # none where nothing was judged
        other = len(classes) > len(job.names) + 1
        path = accuracy_figure(found, arms, job.names, title, folder / "accuracy.png", other=other)
        figures.append((path, CAPTIONS["accuracy"]))
    if any(row["label"] is not None for row in rows):  # a judge may have been asked for the match alone
        matrices = {arm: off_target(own, job.names, classes).matrix for arm, own in job.labels.items()}
        title = f"Target emotion against label: {where}"
        path = off_target_figure(matrices, job.names, title, folder / "off_target.png")
        figures.append((path, CAPTIONS["off_target"]))
    if job.config.evaluator.name == "classifier":
        made = load_classifier(job.store, job.names, job.config.evaluator.encoder)
        report, n = made.report, made.report["n"]
        path = confusion_figure(
            np.array(report["confusion"]), list(made.names), f"The classifier on {n} replies of held-out scenarios",
            folder / "classifier.png",
        )  # fmt: skip
        figures.append((path, CAPTIONS["classifier"]))
        title = f"Calibration of the classifier, {n} replies of held-out scenarios"
        path = calibration_figure(report["calibration"], report["calibration_error"], title, folder / "calibration.png")
        figures.append((path, CAPTIONS["calibration"]))
    return figures


def _once(job: Job, make: Callable[..., Figure], shape: dict[str, Any], where: str, folder: Path) -> Figure:
    """Draw a figure of the directions, or write the one that an earlier job of this sweep drew of the same ones."""
    of = digest([job.probes_address, job.prompted_address])
    key = (of, make.__name__, where)
    if key not in _drawn:
        if any(address != of for address, *_ in _drawn):
            _drawn.clear()
        path, caption = make(job, shape, where, folder)
        _drawn[key] = (path.name, path.read_bytes(), caption)
    name, image, caption = _drawn[key]
    (folder / name).write_bytes(image)
    return folder / name, caption


def _probe(job: Job, shape: dict[str, Any], where: str, folder: Path) -> Figure:
    probes = shape["probes"]
    curves = {"raw states": np.array(probes["raw"]), "within-group differences": np.array(probes["difference"])}
    title = (
        f"Linear probes for emotion: {where}, fitted on {probes['n_train']} states, "
        f"scored on {probes['n_test']} of other scenarios"
    )
    path = probe_figure(curves, 1 / len(job.names), title, folder / "probes.png", marker=probes["separates_at"])
    return path, CAPTIONS["probes"]


def _scatter(job: Job, shape: dict[str, Any], where: str, folder: Path) -> Figure:
    panels = {}
    for row in shape["scatter"]:
        points = np.array(row["points"])
        labels = job.names * (len(points) // len(job.names))
        kind = "within-group difference" if row["difference"] else "raw state"
        panels[f"block {row['block']}, {kind}"] = (points, labels, np.array(row["explained"]))
    path = pca_figure(
        panels,
        f"Principal components of resid_post, {TOKENS[job.config.directions.tokens]}: {where}",
        folder / "pca.png",
    )
    return path, CAPTIONS["pca"]


def _cosines(job: Job, shape: dict[str, Any], where: str, folder: Path) -> Figure:
    n = job.spec.n_layers
    blocks = sorted({n // 4, n // 2, (3 * n) // 4, n - 1})
    mats = {f"block {b}": np.array(shape["cosines"][b][MLP]) for b in blocks}
    title = f"Cosines between emotion directions (v_mlp): {where}, {shape['groups']['groups']} groups"
    path = cosine_figure(mats, job.names, title, folder / "cosines.png")
    return path, CAPTIONS["cosines"]
