"""A saved workspace and a report in Weights & Biases, from `emo.report.workspace`; needs wandb-workspaces."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from emo.config.schema import TrackerConfig
from emo.core.errors import UserError
from emo.report import tracking_access
from emo.report.workspace import Chart, Views

WIDE = 24  # columns of a report's grid
DOTTED = "dotted"


def check() -> None:
    """Refuse where the package is missing.

    Raises:
        UserError: says what to install.
    """
    if importlib.util.find_spec("wandb_workspaces") is None:
        raise UserError(
            "task=report: the package wandb-workspaces is not installed; type pip install -c constraints.txt "
            "-r requirements-workspaces.txt, or tracker.mode=offline, which writes what it would make"
        )


def save(made: Views, tracker: TrackerConfig) -> dict[str, str]:
    """Save both on the server and return their addresses.

    Raises:
        UserError: W&B refused them; the runs are there all the same.
    """
    wandb = tracking_access.module()
    try:
        entity = tracker.entity or wandb.Api().default_entity
        workspace, report = build(made, entity, tracker.project)
        return {"workspace": workspace.save().url, "report": report.save().url}
    except Exception as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"task=report: W&B did not take it ({reason}); the runs of the group are logged") from error


def build(made: Views, entity: str, project: str) -> tuple[Any, Any]:
    """Return workspace and report as objects of wandb-workspaces, not saved."""
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    workspace = ws.Workspace(
        entity=entity,
        project=project,
        name=made.workspace["name"],
        sections=[
            ws.Section(
                name=section["name"],
                panels=[_panel(wr, chart, made.curve_runs) for chart in section["charts"]],
                is_open=section["open"],
                pinned=section["open"],
            )
            for section in made.workspace["sections"]
        ],
        runset_settings=ws.RunsetSettings(filters=ws.And(ws.Metric("Group") == made.group)),
    )
    blocks: list[Any] = []
    for block in made.report["blocks"]:
        if "heading" in block:
            blocks.append(wr.H2(block["heading"]))
        elif "lines" in block:
            blocks.append(wr.UnorderedList([*block["lines"]]))
        elif "markdown" in block:
            blocks.append(wr.MarkdownBlock(block["markdown"]))
        elif block["charts"]:
            filters = ws.And(ws.Metric("Group") == made.group, ws.Metric("JobType") == block["job_type"])
            runs = wr.Runset(entity=entity, project=project, name=made.group, filters=filters)
            blocks.append(
                wr.PanelGrid(runsets=[runs], panels=[_panel(wr, x, made.curve_runs) for x in block["charts"]])
            )
    told = {key: made.report[key] for key in ("title", "description")}
    return workspace, wr.Report(entity=entity, project=project, blocks=blocks, width="fluid", **told)


def _panel(wr: Any, chart: Chart, curve_runs: Sequence[str]) -> Any:
    keys, title = chart["keys"], chart["title"]
    wide = wr.Layout(w=WIDE, h=12)
    if chart["kind"] == "line":
        marks = {f"{run}:{key}": DOTTED for run in curve_runs for key in keys[1:]}
        return wr.LinePlot(title=title, x=chart["x"], y=keys, title_x=chart["x"], line_marks=marks or None)
    if chart["kind"] == "bar":
        return wr.BarPlot(title=title, metrics=keys)
    if chart["kind"] == "table":
        return wr.WeavePanelSummaryTable(table_name=keys[0], layout=wide)
    if chart["kind"] == "images":
        return wr.MediaBrowser(title=title, media_keys=keys, num_columns=1, layout=wide)
    return wr.ParameterImportancePlot(with_respect_to=keys[0], layout=wide)
