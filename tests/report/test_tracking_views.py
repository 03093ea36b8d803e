"""The saved workspace and the report of a sweep: what they hold, and that W&B's own library takes it; no server."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.result_tables import AXES, configs, sweep

from emo.config.schema import TrackerConfig
from emo.core.errors import UserError
from emo.report import tracking, tracking_access, tracking_views
from emo.report.workspace import Views, views

COMPARED = """axis,a,b,at,arm,beyond,metric,emotion,valence,value_a,value_b,difference,ci_lo,ci_hi,n,scenarios,p,p_holm
model,llama,qwen,intervention.alpha=1,steer,,logprob_margin,,,0.5,0.25,0.25,0.1,0.4,12,8,0.01,0.02
model,llama,qwen,intervention.alpha=1,steer,,logprob_margin,anger,,0.5,0.25,0.25,0.1,0.4,12,8,0.01,0.02
"""
EFFECTS = """axis,range,by_chance,p_holm,value,effect,ci_lo,ci_hi,mean,jobs,metric,arm
model,0.5,0.1,0.02,llama,0.25,0.1,0.4,0.6,2,logprob_margin,steer
model,0.5,0.1,0.02,qwen,-0.25,-0.4,-0.1,0.1,2,logprob_margin,steer
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return the folder of a sweep with the tables that are read."""
    folder = tmp_path / "alpha"
    folder.mkdir()
    (folder / "comparisons.csv").write_text(COMPARED)
    (folder / "main_effects.csv").write_text(EFFECTS)
    (folder / "sweep_effects.png").touch()
    return folder


def planned(root: Path, axes: tuple[str, ...] = AXES) -> Views:
    frame = sweep()
    curves = list(tracking.curve_runs(frame, axes, configs(frame)).values())
    return views(root, "alpha-1234", curves, [{"a_headline/1_logprob_margin": 0.5}] * 4, list(axes), ["one", "two"])


def test_headline_charts_come_first_with_their_intervals(root: Path) -> None:
    made = planned(root)
    first, *rest = made.workspace["sections"]
    assert first["open"] and first["charts"][0] == {
        "kind": "line", "title": "logprob margin over alpha", "x": "alpha",
        "keys": [f"a_headline/1_logprob_margin_over_alpha{end}" for end in ("", "_lo", "_hi")],
    }  # fmt: skip
    assert [section["name"] for section in rest] == ["arm01_none", "arm03_steer", "tables", "figures"]
    assert not any(section["open"] for section in rest)
    assert rest[0]["charts"][0]["title"] == "none: logprob margin over alpha"
    assert [chart["keys"] for chart in rest[2]["charts"]] == [
        ["tables/points"], ["tables/comparisons"], ["tables/main_effects"],
    ]  # fmt: skip


def test_the_report_has_the_comparisons_and_what_matters(root: Path) -> None:
    made = planned(root)
    tables = [block["markdown"] for block in made.report["blocks"] if "markdown" in block]
    assert (
        "| model | llama − qwen | intervention.alpha=1 | steer | logprob_margin | +0.250 [+0.100, +0.400] |"
        in tables[0]
    )
    assert "The 1 largest of 1" in tables[0]
    assert "| model | 0.500 | 0.100 | 0.020 | qwen | -0.250 [-0.400, -0.100] | 2 |" in tables[1]
    assert "more with llama" in " ".join(line for block in made.report["blocks"] for line in block.get("lines", []))
    ranked = [c for block in made.report["blocks"] for c in block.get("charts", []) if c["kind"] == "importance"]
    assert [chart["keys"] for chart in ranked] == [["steer/logprob_margin"]]


def test_without_a_swept_number_bars_of_the_jobs_are_drawn(root: Path) -> None:
    for path in root.iterdir():
        path.unlink()
    made = planned(root, ("model",))
    assert made.workspace["sections"][0]["charts"] == [
        {"kind": "bar", "title": "logprob margin", "keys": ["a_headline/1_logprob_margin"]}
    ]
    told = [line for block in made.report["blocks"] for line in block.get("lines", [])]
    assert told == ["Nothing to rank: one key was swept."]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its own, of pydantic
def test_the_library_takes_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As objects of wandb-workspaces: their own specification has the charts, the group and the dots."""
    asked = pytest.importorskip("wandb_workspaces.reports.v2.interface")
    monkeypatch.setattr(asked, "_get_api", lambda: None)
    monkeypatch.setattr(asked, "execute_graphql", lambda *_: {"project": {"internalId": "1"}})
    workspace, report = tracking_views.build(planned(root), "somebody", "tests")
    said = json.dumps(workspace._spec)
    assert said.index("a_headline/1_logprob_margin_over_alpha") < said.index("arm01_none/")
    assert "alpha-1234" in said and '"one:a_headline/1_logprob_margin_over_alpha_lo": "dotted"' in said
    told = report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)
    for text in ("llama − qwen", "tables/comparisons", "steer/logprob_margin", "figures/sweep_effects", "alpha-1234"):
        assert text in told, text


def test_what_the_server_refuses_is_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = planned(root)
    monkeypatch.setattr(
        tracking_access, "module", lambda: SimpleNamespace(Api=lambda: SimpleNamespace(default_entity="me"))
    )

    class Saved:
        def __init__(self, url: str) -> None:
            self.url = url

        def save(self) -> Any:
            if not self.url:
                raise ValueError("no such project\nand more")
            return self

    monkeypatch.setattr(tracking_views, "build", lambda *_: (Saved("w"), Saved("r")))
    assert tracking_views.save(made, TrackerConfig(name="wandb")) == {"workspace": "w", "report": "r"}
    monkeypatch.setattr(tracking_views, "build", lambda *_: (Saved("w"), Saved("")))
    with pytest.raises(UserError, match=r"W&B did not take it \(no such project\); the runs of the group are logged"):
        tracking_views.save(made, TrackerConfig(name="wandb"))


def test_a_missing_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"-r requirements-workspaces\.txt, or tracker\.mode=offline"):
        tracking_views.check()
