"""From rows per reply to the numbers of a result, against cases computed by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from emo.data.scenarios import Sample
from emo.edit.base import Arm
from emo.results import estimates as summary


def a_job() -> Any:
    """Return two test samples under arms none, prompt, steer and random (two seeds), with hand-written numbers."""
    samples = [Sample(f"s{i}/{v}", f"s{i}", "t", v, "", "") for i, v in ((0, "positive"), (1, "negative"))]
    arms = [
        Arm("none", "none"),
        Arm("prompt", "prompt"),
        Arm("steer", "steer", 1.0, (0,)),
        Arm("random", "random", 1.0, (0,), seeds=2),
    ]
    nll: dict[str, list[tuple[str | None, int, tuple[float | None, ...]]]] = {
        "none": [(None, 0, (1.0, 2.0))],
        "prompt": [("anger", 0, (2.0, 2.0)), ("fear", 0, (3.0, 2.0))],
        "steer": [("anger", 0, (2.0, None)), ("fear", 0, (1.5, 4.0))],
        "random": [(None, 0, (1.0, 5.0)), (None, 1, (2.0, None))],
    }
    damage = {
        arm: [
            {"sample": s.id, "emotion": emotion, "seed": seed, "nll": x, "kl": None if arm == "none" else 0.5}
            | {"cosine": 0.5, "words": 4, "degenerate": x is None, "refusal": False}
            for emotion, seed, values in parts
            for s, x in zip(samples, values, strict=True)
        ]
        for arm, parts in nll.items()
    }
    margin = {
        arm: [
            {"sample": s.id, "emotion": e, "seed": seed, "margin": 10.0 * seed + (1 if e == "fear" else 0) + i}
            for seed in range(2 if arm == "random" else 1)
            for i, s in enumerate(samples)
            for e in ("anger", "fear")
        ]
        for arm in nll
    }
    config = SimpleNamespace(evaluator=SimpleNamespace(name="margin", bootstrap=50, metrics=[]), seed=0)
    names, splits = ["anger", "fear"], SimpleNamespace(test=samples)
    return SimpleNamespace(
        arms=arms, names=names, damage=damage, margins=margin, labels={}, doses={}, splits=splits, config=config
    )


@pytest.fixture
def values(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, float | None]]:
    """Return the estimates of `a_job`, without projections."""
    monkeypatch.setattr(summary, "_projection_rows", lambda _: iter(()))
    job = a_job()
    found = summary.estimates(job, summary.long_table(job))
    return {arm: {metric: x.value for metric, x in metrics.items()} for arm, metrics in found.items()}


def test_ppl_ratio_by_hand(values: dict[str, dict[str, float | None]]) -> None:
    """exp of the mean difference over pairs in which both have a reply; none's reply stands for every emotion."""
    assert values["none"]["ppl_ratio"] == pytest.approx(1)
    assert values["prompt"]["ppl_ratio"] == pytest.approx(math.exp((1 + 0 + 2 + 0) / 4))
    assert values["steer"]["ppl_ratio"] == pytest.approx(math.exp((1 + 0.5 + 2) / 3))
    assert values["steer"]["ppl_ratio/anger"] == pytest.approx(math.exp(1))
    assert values["steer"]["ppl_ratio/fear/negative"] == pytest.approx(math.exp(2))
    assert "ppl_ratio/anger/negative" not in values["steer"]
    assert values["steer"]["ppl_ratio_prompt"] == pytest.approx(math.exp((0 - 1.5 + 2) / 3))
    tail = np.quantile([2.0, 1.5, 4.0], 0.95) - 1.5
    assert values["steer"]["ppl_ratio_p95"] == pytest.approx(math.exp(tail))


def test_seeds_are_averaged_per_sample_first(values: dict[str, dict[str, float | None]]) -> None:
    """Sample 0 has two seeds (1.5 in the mean), sample 1 one that spoke (5): not the mean over replies."""
    assert values["random"]["ppl_ratio"] == pytest.approx(math.exp(((1.5 - 1) + (5 - 2)) / 2))
    assert values["random"]["degenerate"] == pytest.approx((0 + 0.5) / 2)
    assert values["random"]["logprob_margin"] == pytest.approx(5 + 0.5 + 0.5)
    assert values["random"]["logprob_margin/fear/negative"] == pytest.approx(5 + 1 + 1)
    assert values["steer"]["degenerate"] == pytest.approx(1 / 4)
    assert values["steer"]["length"] == 4
    assert "kl" not in values["none"] and values["steer"]["kl"] == 0.5


def test_the_long_table_has_one_row_per_sample_emotion_and_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """n in a table counts prompt-emotion pairs, not seeds."""
    monkeypatch.setattr(summary, "_projection_rows", lambda _: iter(()))
    job = a_job()
    frame: pd.DataFrame = summary.long_table(job)
    counts = frame.groupby(["arm", "metric"]).size()
    assert set(counts[["none", "prompt", "steer"]]) == {4}
    assert set(counts["random"]) == {8}  # two draws
    assert not frame.duplicated(["arm", "metric", "sample", "emotion", "draw"]).any()
    assert summary.estimates(job, frame)["random"]["degenerate"].n == 4
    one = frame[frame["sample"] == "s0/positive"]
    assert summary.estimates(job, one)["steer"]["ppl_ratio"].to_dict()["ci"] is None


def projected(proj: dict[str, Tensor], names: list[str]) -> Any:
    """Return a job of two samples with given projections (entries, l, e)."""
    job = a_job()
    job.names, job.projections, job.spec = names, proj, SimpleNamespace(n_layers=2)
    job.last_block = {arm: x[:, -1] for arm, x in proj.items()}
    job.config.evaluator.name = "projection"
    return job


def test_projection_shifts_by_hand() -> None:
    """Each target's own projection, minus that without intervention, seeds averaged; the prompt's gap is pooled."""
    draw = torch.Generator().manual_seed(0)
    entries = {"none": 2, "prompt": 4, "steer": 4, "random": 4}  # samples x emotions or seeds
    proj = {arm: torch.randn(n, 2, 2, generator=draw).double() for arm, n in entries.items()}
    job = projected(proj, ["anger", "fear"])
    found = summary.estimates(job, summary.long_table(job))
    total = {arm: x.sum(1).numpy() for arm, x in proj.items()}  # (entries, e): summed over blocks
    prompt_gap = np.mean([total["prompt"][2 * e + i, e] - total["none"][i, e] for e in (0, 1) for i in (0, 1)])
    for e, name in enumerate(job.names):
        steer = np.mean([total["steer"][2 * e + i, e] - total["none"][i, e] for i in (0, 1)])
        random = np.mean([total["random"][2 * s + i, e] - total["none"][i, e] for s in (0, 1) for i in (0, 1)])
        assert found["steer"][f"delta_s/{name}"].value == pytest.approx(steer)
        assert found["random"][f"delta_s/{name}"].value == pytest.approx(random)
        assert found["steer"][f"delta_s_rel/{name}"].value == pytest.approx(steer / abs(prompt_gap))
    assert abs(found["prompt"]["delta_s_rel"].value or 0) == pytest.approx(1)
    assert found["none"]["delta_s"].value == 0  # the reference
