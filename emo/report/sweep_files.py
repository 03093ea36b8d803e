"""The table of a sweep: results.csv, results.jsonl, figures, report.html, and its view in W&B."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emo.config.schema import TrackerConfig
from emo.core import console
from emo.core.disk import writing
from emo.core.frames import pd
from emo.core.sealed import changed, file_digests, seal
from emo.measure import unjudged
from emo.report import depths_page, geometry_page, min_budget, sweep_corrected
from emo.report.charts.section import drawable
from emo.report.charts.sweep import sweep_charts
from emo.report.class_summary import class_summary
from emo.report.corrected_section import refresh
from emo.report.job_sections import job_sections, linked, read_figures
from emo.report.plots.min_budget import min_budget_figure
from emo.report.plots.sweep import draw_sweep
from emo.report.sweep_comparisons import FILE as COMPARISONS
from emo.report.sweep_comparisons import compare_sweep
from emo.report.sweep_page import Row, write_sweep_report
from emo.report.sweep_table import console_rows
from emo.report.sweep_table import read_table as read_axes
from emo.report.sweep_tracking import track
from emo.results.main_effects import FILE as EFFECTS
from emo.results.random_weights import random_weights
from emo.results.table import job_folders, label, name_folder, read_any, read_sweep, table_of
from emo.results.table_files import JSONL, PARQUET, STATES, described, digests, read_table, write_table
from emo.results.trusted import FILE as TRUSTED

# That a table may lack.
OPTIONAL = {JSONL, PARQUET, COMPARISONS, EFFECTS, geometry_page.FILE, depths_page.FILE, sweep_corrected.FILE}
CONSOLE_ROWS = 30  # the report and results.csv have all


def summarize_sweep(
    root: Path, tracker: TrackerConfig, *, anew: bool = False, sweep: dict[str, Any] | None = None, write: bool = True
) -> None:
    """Write and print the table of the sweep in ``root`` from the results on disk; nothing where none is done.

    Args:
        root: its folder.
        tracker: W&B, or nothing.
        anew: draw and write also what has not changed.
        sweep: its list, where it is not read from ``root``.
        write: False: only print.

    Raises:
        DiskFullError: there is no room for the table; results and an earlier table stay as they are.
    """
    sweep = sweep or read_sweep(root)
    folders = job_folders(root, sweep)
    settings = {job["address"][:16]: label(job["settings"]) for job in sweep["jobs"]} if sweep else {}
    names = [settings.get(folder.name) or folder.name for folder in folders]
    shown = None if anew else _shown(root, sweep, folders, names)
    if shown is None:
        results = {folder: read_any(folder) for folder in folders}
        finished = [result for result in results.values() if result and result["status"] == "done"]
        if not finished:
            console.warn(f"{root}: no job is done, so there is no table")
            return
        frame = table_of(finished, sweep)
        rows = [_row(root, folder, name, results[folder]) for folder, name in zip(folders, names, strict=True)]
        left_out = {
            name: n for name, folder in zip(names, folders, strict=True) if (n := unjudged.total(results[folder]))
        }
        title = f"{name_folder(root).name}: {', '.join(frame.attrs['axes']) or 'one job'}"
        command = sweep["command"] if sweep else f"python run.py task=summarize runs={root}"
        unfolded = bool(sweep and sweep.get("experiment"))
        states = described(frame, digests(folders), sweep["axes"] if sweep else [])
        untrained = random_weights(results.values())
        states |= {"untrained": untrained, "jobs": names, "unjudged": left_out, "trusted": digests(folders, TRUSTED)}
        if write:
            for folder in folders:
                refresh(folder)
            with writing(root / "results.csv", "the table of the sweep"):
                by_name = {path.name: result for path, result in results.items()}
                _write(root, frame, title, command, rows, by_name, unfolded, states)
    else:
        frame, left_out, untrained = shown
    if untrained:
        console.say(untrained)
    axes = frame.attrs["axes"]
    columns, cells = console_rows(frame, axes, len(frame))
    console.table("test: mean [95 % interval over scenarios or groups]", columns, cells[:CONSOLE_ROWS])
    if len(cells) > CONSOLE_ROWS:
        console.say(f"{len(cells) - CONSOLE_ROWS} of {len(cells)} rows are in the report only")
    if left_out:
        told = "; ".join(f"{name}: {n}" for name, n in left_out.items())
        console.warn(f"unjudged replies, in no mean of the table ({told}); the same line, typed again, asks for these")
    for what, path in (("table", root / "results.csv"), ("report", root / "report.html")):
        if path.is_file():
            console.say(f"{what}: {path}")
    if write and tracker.name == "wandb":
        track(root, frame, tracker)


def _write(
    root: Path, frame: pd.DataFrame, title: str, command: str, rows: list[Row],
    results: Mapping[str, dict[str, Any] | None], unfolded: bool, states: dict[str, Any],
) -> None:  # fmt: skip
    """Write all files of the table beside the old ones, then rename them.

    Args:
        root: the sweep's folder.
        frame: its results, with its axes.
        title: what was swept.
        command: the line that continues it.
        rows: its jobs.
        results: content of result.json, by name of the job's folder.
        unfolded: the page shows the jobs' sections open.
        states: what is kept so that the files can be read in place of the results.
    """
    axes = frame.attrs["axes"]
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=root))
    try:
        write_table(frame, scratch)
        sizes = {name: (result or {}).get("parameters") for name, result in results.items()}
        table, drawn = _budgets(frame.assign(parameters=frame["job"].map(sizes)), axes, title, scratch)
        done = [(row.label, results[Path(row.folder).name] or {}) for row in rows if row.state == "done"]
        classes = class_summary(done, title, scratch)
        if classes is not None:
            table, drawn = table + classes.tables, [*drawn, *classes.figures]
        found = {root / row.folder: results[Path(row.folder).name] for row in rows}
        compared = compare_sweep(found, axes, title, scratch)
        table += compared.table if compared else ""
        views = (geometry_page.of_sweep, depths_page.of_sweep)
        alike = [made for view in views if (made := view(found, axes, title, scratch))]
        table += "".join(made.table for made in alike)
        drawn += [figure for made in alike for figure in made.figures]
        labels = {Path(row.folder).name: row.label for row in rows}
        corrected = sweep_corrected.of_sweep(found, frame, axes, labels, scratch)
        figures = [*(compared.figures if compared else ()), *draw_sweep(frame, axes, title, scratch), *drawn]
        notes = ["All numbers are of the test split; intervals resample scenarios or groups (default: 2,000 draws)."]
        jobs = [
            read_figures(row.label, row.folder, root / row.folder, results[Path(row.folder).name] or {})
            for row in rows
            if row.state == "done"
        ]
        notes += classes.notes if classes is not None else []
        notes += compared.notes if compared is not None else []
        link = linked(jobs, root)
        sections = job_sections(jobs, root, unfolded=unfolded, link=link)
        told = classes.findings if classes is not None else None
        told_pairs = [*(compared.findings if compared else ()), *(line for made in alike for line in made.findings)]
        doubtful = {name: said for name, result in results.items() if (said := (result or {}).get("verdicts"))}
        write_sweep_report(
            scratch, title, command, frame, axes, rows, figures, notes, table, sections,
            charts=[*drawable(lambda: sweep_charts(frame, axes)), *(corrected.charts if corrected else ()),
                    *(compared.charts if compared else ())],
            linked=link, findings=told, verdicts=doubtful, warning=states["untrained"], differences=told_pairs,
            corrected=corrected,
        )  # fmt: skip
        (scratch / STATES).write_text(json.dumps(seal(states | {"files": file_digests(scratch)})), encoding="utf-8")
        for name in OPTIONAL - {path.name for path in scratch.iterdir()}:
            (root / name).unlink(missing_ok=True)  # of an earlier table
        for path in scratch.iterdir():
            os.replace(path, root / path.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _budgets(frame: pd.DataFrame, axes: list[str], title: str, folder: Path) -> tuple[str, list[tuple[Path, str]]]:
    """Return the table of the smallest sufficient budgets and its figure, where budgets of circuits were swept."""
    if min_budget.BUDGET not in axes or not read_axes(frame, axes).numeric(min_budget.BUDGET):
        return "", []
    others = [axis for axis in axes if axis not in (min_budget.BUDGET, "model")]
    found = min_budget.smallest_budget(frame, others)
    points = [
        (" ".join(str(row[key]) for key in ("model", *others)), row["parameters"], row["budget"])
        for row in found
        if row["parameters"] and row["budget"]
    ]
    if len({row["model"] for row in found if row["parameters"] and row["budget"]}) < 2:
        return min_budget.table(found, others), []
    path = min_budget_figure(points, f"{title}: smallest sufficient budget", folder / "sweep_min_budget.png")
    return min_budget.table(found, others), [(path, min_budget.NOTE)]


def _shown(
    root: Path, sweep: dict[str, Any] | None, folders: list[Path], names: list[str]
) -> tuple[pd.DataFrame, dict[str, int], str] | None:
    """Return what is shown where all files in ``root`` show just these results.

    That is: the table, the unjudged replies per job, and what must be read before any number. Reading hundreds of
    results takes minutes, and drawing them again seconds.
    """
    kept = read_table(root, folders, sweep["axes"] if sweep else [])
    if kept is None or kept[1].get("jobs") != names or "untrained" not in kept[1] or changed(root, kept[1]["files"]):
        return None
    if kept[1].get("trusted", [None] * len(folders)) != digests(folders, TRUSTED):
        return None
    return kept[0], dict(kept[1]["unjudged"]), str(kept[1]["untrained"])


def _row(root: Path, folder: Path, name: str, result: dict[str, Any] | None) -> Row:
    where = os.path.relpath(folder, root)  # the jobs of an earlier table lie two folders above it
    if result is None:
        return Row(name, "missing", where, None, None)
    return Row(name, result["status"], where, result["wall_s"], result.get("error") or unjudged.line_of(result))
