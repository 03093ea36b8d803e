"""The shuffled control: balanced over groups, orthogonal to the true directions, left out where nothing is left."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.jobs import config, read_result
from torch import Tensor

from emo.cli.run import run_job
from emo.core.errors import UserError
from emo.find.directions import MLP, Moments, shuffled_draws
from emo.pipeline.scenario import Job

pytestmark = pytest.mark.usefixtures("quiet")
BLOCKS, WIDTH, DRAWS = 2, 24, 5


def group(draw: torch.Generator, own: Tensor) -> list[Tensor | None]:
    """Return states (l, 2, d) of every emotion: what it shares with the group, its own part, and noise."""
    e = len(own)
    shared = 3 * torch.randn(BLOCKS, 2, WIDTH, generator=draw)
    noise = torch.randn(e, BLOCKS, 2, WIDTH, generator=draw)
    return list(shared + own[:, None, None] + noise)


def streamed(
    e: int, groups: int, baseline: str = "emotions_mean", identity: str = "a", missing: float = 0.0
) -> Moments:
    """Stream made-up groups of e emotions; a share of the states is missing."""
    draw, chance = torch.Generator().manual_seed(0), random.Random(1)
    own = 2 * torch.randn(e, WIDTH, generator=draw)
    made = Moments(e, baseline, not missing, DRAWS, f"0/{identity}")
    for g in range(groups):
        states = [None if chance.random() < missing else x for x in group(draw, own)]
        made.add(f"group {g}", states, group(draw, own)[0] if baseline == "neutral" else None)
    return made


@pytest.mark.parametrize("e", [2, 3, 6])
@pytest.mark.parametrize("groups", [1, 4, 6, 36, 37])
def test_what_stands_under_a_label_comes_from_every_emotion_alike(e: int, groups: int) -> None:
    """As equally often as groups allow: nothing tilts a draw but the remainder."""
    for given in streamed(e, groups).given[1:]:
        assert (given.sum(0) == groups).all() and (given.sum(1) == groups).all()
        assert given.max() - given.min() <= 1
        if groups == 1:
            assert not given.diagonal().any()


def test_groups_with_missing_emotions_are_balanced_as_far_as_they_go() -> None:
    """A quarter of the states is missing: labels still come from all emotions about alike."""
    for given in streamed(4, 120, missing=0.25).given[1:]:
        assert given.max() - given.min() <= 0.25 * given.mean()
    tilted = Moments(4, "emotions_mean", False, 1, 0)
    tilted.given[1] = np.full((4, 4), 9)
    tilted.given[1][0, 1] = 0  # never so far: comes next
    tilted.groups = 9
    assert tilted._permuted(1, "g", [0, 1, 2, 3])[0] == 1


@pytest.mark.parametrize("baseline", ["emotions_mean", "neutral"])
@pytest.mark.parametrize("e", [2, 3, 6])
def test_a_draw_moves_nothing_along_the_true_direction(e: int, baseline: str) -> None:
    """Exactly orthogonal at every block and sublayer, unit length, and every draw another direction."""
    made = streamed(e, 12, baseline)
    (v, _), (shuffled, cosine) = made.directions(), made.shuffled()
    assert ((shuffled * v).sum(-1).abs() <= 1e-6).all()
    assert ((shuffled.norm(dim=-1) - 1).abs() <= 1e-6).all()
    assert ((shuffled[0] * shuffled[1]).sum(-1).abs() < 0.99).all()
    if baseline == "emotions_mean":  # balanced: what is taken out has no sign of its own
        assert abs(float(cosine.mean())) < 0.15


def test_no_two_models_share_permutations() -> None:
    """A tilt that all models have would look like an effect of steering."""
    one, other, again = (streamed(6, 30, identity=name) for name in ("a", "b", "a"))
    assert one.sums is not None and other.sums is not None and again.sums is not None
    assert torch.equal(one.sums, again.sums)
    assert torch.equal(one.sums[0], other.sums[0])
    assert not torch.equal(one.sums[1], other.sums[1])
    more = Moments(6, "emotions_mean", True, DRAWS + 2, "0/a")  # more draws keep the first ones
    draw = torch.Generator().manual_seed(0)
    own = 2 * torch.randn(6, WIDTH, generator=draw)
    for g in range(30):
        more.add(f"group {g}", group(draw, own), None)
    assert more.sums is not None
    assert torch.equal(more.sums[: 1 + DRAWS], one.sums)


def test_nothing_is_left_of_one_group_of_two_emotions() -> None:
    """Swapped labels give the opposite direction: there is no control, and zeros rather than rounding."""
    v, cosine = streamed(2, 1).shuffled()
    assert cosine.isnan().all() and not v.any()
    assert not streamed(3, 1).shuffled().cosine.isnan().any()
    assert not streamed(2, 2).shuffled().cosine.isnan().any()


def test_few_emotions_get_more_draws() -> None:
    """As many directions as six emotions give."""
    assert [shuffled_draws(3, e) for e in (1, 2, 3, 4, 6, 8)] == [18, 9, 6, 5, 3, 3]
    assert all(shuffled_draws(s, e) == math.ceil(6 * s / e) for s in (1, 2, 5) for e in (2, 3, 4, 5))


def done(folder: Path, *more: str) -> dict[str, Any]:
    """Run a job and return its result."""
    assert run_job(config(folder, "evaluator=projection", *more)) == 0
    return read_result(folder)


def test_the_report_shows_every_draw(tmp_path: Path) -> None:
    """Cosines before they were taken out, what is left after, and what intervals cover."""
    result = done(tmp_path, "dataset.limit=6", "emotions.names=[anger,fear]", "control.seeds=1")
    draws = result["shuffled"]["draws"]
    assert len(draws) == shuffled_draws(1, 2) == 3
    job = Job(config(tmp_path, "dataset.limit=6", "emotions.names=[anger,fear]", "control.seeds=1"))
    assert job.shuffled is not None
    for own, cosine in zip(draws, job.shuffled.cosine[..., MLP], strict=True):
        assert own["mean"] == pytest.approx(float(cosine.mean()), abs=1e-6)
        assert own["largest"] == pytest.approx(float(cosine.abs().max()), abs=1e-6)
    assert result["shuffled"]["after"] <= 1e-6
    [page] = tmp_path.glob("run/*/report.html")
    html = page.read_text(encoding="utf-8")
    assert "3 draws, labels balanced over groups" in html and f"{draws[0]['mean']:+.2f}" in html
    assert "Intervals of random, shuffled, and of differences from them, are over" in html  # random: ten projections


def test_without_a_control_its_arm_is_left_out_and_said(tmp_path: Path) -> None:
    """One scenario with one outcome and two emotions; asked for alone, it is refused."""
    words = ("dataset.limit=1", "dataset.valences=[positive]", "emotions.names=[anger,fear]")
    result = done(tmp_path, *words)
    assert list(result["arms"]) == ["none", "prompt", "steer", "random"]
    assert "shuffled" not in result
    [page] = tmp_path.glob("run/*/report.html")
    assert "there is no shuffled control" in page.read_text(encoding="utf-8")
    with pytest.raises(UserError, match="intervention=shuffled: permuted labels leave nothing"):
        run_job(config(tmp_path, "evaluator=projection", "intervention=shuffled", *words))
    json.dumps(result, allow_nan=False)
