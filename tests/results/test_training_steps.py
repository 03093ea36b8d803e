"""Revisions of one training are drawn along its steps; others stay names, in the order in which they were typed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from support import command
from support.hub_cache import HubCache
from support.jobs import overrides

import emo
from emo.results.curves import curves
from emo.results.training_steps import steps_of, with_steps


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["step1000", "step512", "step0"], [1000, 512, 0]),
        (["stage1-step1000-tokens3B", "stage1-step2000-tokens5B"], [1000, 2000]),
        (["checkpoint-200", "checkpoint-400"], [200, 400]),
        (["v7b-3", "v7b-5"], None),  # two numbers each, and none is said to be the step
        (["tokens_10", "tokens_20"], [10, 20]),
        (["step1000", "main"], None),
        (["3f2a91", "77c0de"], None),
        (["step10", "step010"], None),
        (["step1000"], None),
        ([None, "step10"], None),
    ],
)
def test_which_names_say_a_step(names: list[str], steps: list[int] | None) -> None:
    assert steps_of(names) == (None if steps is None else dict(zip(names, steps, strict=True)))


def frame(revisions: list[str]) -> pd.DataFrame:
    rows = [
        {"job": name, "model": "hub", "model.revision": name, "arm": "steer", "metric": "delta_s_rel",
         "value": float(i), "ci_lo": None, "ci_hi": None, "n": 6}
        for i, name in enumerate(revisions)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_a_curve_along_the_training() -> None:
    axes, names = ["model.revision"], ["step2000", "step100", "step1000"]
    found = with_steps(frame(names), axes)
    (curve,) = curves(found, axes, dict.fromkeys(names, {"model": {"name": "hub"}, "intervention": {"kind": "steer"}}))
    assert [(row["revision"], row["curve/steer/delta_s_rel"]) for row in curve.history] == [
        (100, 1),
        (1000, 2),
        (2000, 0),
    ]
    same = frame(["main", "dpo"])
    assert with_steps(same, axes) is same and not curves(same, axes, {})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a hub cache with three revisions of one training, and two branches without steps."""
    hub = HubCache(tmp_path_factory.mktemp("hub"))
    hub.model("trained")
    for i, name in enumerate(("step1000", "step200", "early", "late"), 1):
        hub.revision(
            "trained", name, str(i) * 40, lambda w, i=i: {k: x + 0.02 * i * torch.cos(x) for k, x in w.items()}
        )
    return hub.root


def swept(cache: Path, folder: Path, revisions: str) -> str:
    """Run a sweep over revisions and return what it prints."""
    own = ("model=hub", "model.id=owner/trained", "evaluator=projection", "console=rich", "tracker=wandb")
    words = overrides(folder, *own, "control=none", "name=revisions")
    environment = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "COLUMNS": "160"}
    done = command.run(folder, "-m", *words, f"model.revision={revisions}", anew=True, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_sweep_over_revisions(cache: Path, tmp_path: Path) -> None:
    """Table, page, figure and runs name the revision; two jobs never look the same."""
    said = swept(cache, tmp_path, "step1000,step200")
    assert "[1/2] model.revision=step1000" in said and "[2/2] model.revision=step200" in said
    found = emo.load_results(tmp_path / "revisions")
    assert list(dict.fromkeys(found["model.revision"])) == ["step1000", "step200"]
    values = found[(found["arm"] == "steer") & (found["metric"] == "delta_s_rel")]["value"]
    assert values.nunique() == 2
    root = tmp_path / "revisions"
    assert (root / "sweep_curves.png").is_file() and "Every arm along model.revision" in (
        root / "report.html"
    ).read_text()
    pages = [page.read_text() for page in sorted(root.glob("*/report.html"))]
    assert (
        sorted(f"owner/trained at {r}" in page for page in pages for r in ("step1000", "step200"))
        == [False] * 2 + [True] * 2
    )
    curve = json.loads((root / "wandb.json").read_text())
    assert any(
        key.startswith("curve model.revision") for group in curve.values() if isinstance(group, dict) for key in group
    )


@pytest.mark.slow
def test_branches_without_steps_keep_the_order_typed(cache: Path, tmp_path: Path) -> None:
    swept(cache, tmp_path, "late,early")
    found = emo.load_results(tmp_path / "revisions")
    assert list(dict.fromkeys(found["model.revision"])) == ["late", "early"]
    assert (tmp_path / "revisions" / "sweep_dots.png").is_file()
