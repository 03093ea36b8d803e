"""The ranking check: effects of single units == full forwards without them, and correlations are what they say."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from support import twin
from support.jobs import config, read_result
from support.runs import start
from support.twin import TOLERANCE, prompt
from support.units import bank_of, naive

from emo.core.types import Site
from emo.find.rank_correlation import spearman
from emo.measure.unit_ablation import Unit, choose, measure, table
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.ops import Scale
from emo.pipeline import ranking_check
from emo.pipeline.scenario import Job

pytestmark = pytest.mark.usefixtures("quiet")
NAMES = ["anger", "fear"]
PROMPTS = [[prompt(14, 1), prompt(9, 2)], [prompt(11, 3), prompt(14, 4)]]  # per emotion


@pytest.mark.parametrize("units", ["neurons", "heads"])
def test_effects_are_those_of_full_forwards(lm: LM, units: str) -> None:
    """A wrong column, block, emotion, sign or sample; the unit's neighbours; a token before the last."""
    bank, v, last = bank_of(lm, units), twin.unit(2, lm.n_layers, lm.d), lm.n_layers - 1
    found = measure(lm, bank, v, PROMPTS, NAMES, 0, 64, count=4)
    for e, name in enumerate(NAMES):
        plain = [naive(lm, ids, [], -1, v, Site.RESID_POST)[last, e] for ids in PROMPTS[e]]
        for one in (unit for unit in found if unit.emotion == name):
            factor = torch.ones(1, bank.scores.shape[2] * bank.width)
            factor[0, one.unit * bank.width : (one.unit + 1) * bank.width] = 0
            edit = Edit(bank.site, one.block, Scale(factor))
            zeroed = [naive(lm, ids, [edit], 0, v, Site.RESID_POST)[last, e] for ids in PROMPTS[e]]
            expected = float(torch.stack(plain).mean() - torch.stack(zeroed).mean())
            assert abs(one.effect - expected) <= TOLERANCE * max(map(abs, [*plain, *zeroed]))
            assert one.score == bank.scores[e, one.block, one.unit]
    effects = [abs(unit.effect) for unit in found]
    assert {unit.block for unit in found} <= set(range(last)) and min(effects) < max(effects) > 1e-3
    again = measure(lm, bank, v, PROMPTS, NAMES, 0, 1, count=4)
    assert np.allclose([u.effect for u in again], [u.effect for u in found], atol=1e-4)


def test_the_best_and_others_at_random() -> None:
    """Random units are none of the best where enough are left, else any; as many as the best."""
    scores = torch.randn(3, 10, generator=torch.Generator().manual_seed(0))
    top, random = choose(scores, 12, np.random.default_rng(0))
    assert top == scores.flatten().argsort(descending=True)[:12].tolist()
    assert len(set(random)) == 12 and not set(top) & set(random)
    assert choose(scores, 12, np.random.default_rng(1))[1] != random
    few, drawn = choose(scores, 20, np.random.default_rng(0))
    assert len(set(drawn)) == len(few) == 20 and set(few) & set(drawn)
    assert sorted(drawn) != sorted(few)
    every, same = choose(scores, 99, np.random.default_rng(0))
    assert sorted(every) == sorted(same) == list(range(30))


def test_spearman_is_scipys() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 6, (4, 15)).astype(float), draw.normal(size=(4, 15))  # with ties
    assert spearman(a, b) == pytest.approx([spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert np.isnan(spearman(np.ones(3), np.arange(3.0)))


def units_of(name: str, effect: Callable[[int], float], count: int = 40) -> list[Unit]:
    """Return units, the first half of them the best, one of these drawn at random too."""
    half = count // 2
    return [Unit(name, 0, u, u < half, u >= half - 1, 1.0 / (1 + u), effect(u)) for u in range(count)]


def test_planted_correlations() -> None:
    """Effects that equal the scores: 1; that fall as scores rise: -1; unrelated: an interval around 0."""
    draw = np.random.default_rng(3)
    same, against = units_of("anger", lambda u: 1.0 / (1 + u)), units_of("fear", lambda u: float(u))
    mixed = units_of("disgust", lambda _: float(draw.normal()), 200)
    names = ["anger", "fear", "disgust"]
    rows = table([*same, *against, *mixed], names, 8, 200, 0)
    by = {(row["emotion"], row["part"]): row for row in rows}
    assert len(by) == len(rows) == 12
    for part in ("top", "random", "all"):
        assert by["anger", part]["rho"] == pytest.approx(1) and by["anger", part]["ci"] == pytest.approx([1, 1])
        assert by["fear", part]["rho"] == pytest.approx(-1)
        lo, hi = by["disgust", part]["ci"]
        assert -0.5 < lo < by["disgust", part]["rho"] < hi < 0.5 and lo < 0 < hi
        mean = np.mean([by[name, part]["rho"] for name in names])
        assert by[None, part]["rho"] == pytest.approx(mean)
        lo, hi = by[None, part]["ci"]
        assert lo < mean < hi and by[None, part]["samples"] == 8
    sizes = [by["anger", part]["n_units"] for part in ("top", "random", "all")]
    assert sizes == [20, 21, 40] and by["anger", "all"]["shared"] == 1
    wide = table(mixed[:30] + mixed[170:], ["disgust"], 8, 200, 0)[-1]
    width = [row["ci"][1] - row["ci"][0] for row in (wide, by["disgust", "all"])]
    assert width[0] > 1.3 * width[1]


def test_flat_effects_have_no_correlation() -> None:
    [row, *_] = table(units_of("anger", lambda _: 0.0), ["anger"], 1, 20, 0)
    assert (row["rho"], row["ci"]) == (None, None)
    assert ranking_check.line(table(units_of("anger", lambda _: 0.0), ["anger"], 1, 20, 0), "heads").startswith(
        "rho not measured over 40 heads"
    )


@pytest.mark.parametrize("kind", ["ablate_neurons", pytest.param("enhance_heads", marks=pytest.mark.slow)])
def test_a_job_reports_its_ranking(tmp_path: Path, kind: str) -> None:
    """Rows, fact, figure and console line; all blocks below the last, whichever are edited."""
    words = (f"intervention={kind}", "intervention.k=2", "evaluator=projection", "attribution.check=3")
    done = start(tmp_path, *words, "console=rich")
    assert done.process.returncode == 0, done.process.stderr
    result = read_result(tmp_path / "outputs")
    rows = result["ranking_check"]
    assert [(r["emotion"], r["part"]) for r in rows] == [
        (e, part) for part in ("top", "random", "all") for e in (None, "anger", "sadness", "fear")
    ]
    blocks, units = 3, 48 if kind == "ablate_neurons" else 4
    count = min(200, blocks * units)
    assert all(r["samples"] == 3 and r["n_units"] == r["shared"] == count for r in rows)  # all of them are both
    assert all(math.isfinite(r["rho"]) and -1 <= r["ci"][0] <= r["ci"][1] <= 1 for r in rows)
    whole = rows[8]
    said = f"rho {whole['rho']:.2f} [{whole['ci'][0]:.2f}, {whole['ci'][1]:.2f}] over {count} {kind.partition('_')[2]}"
    assert f"ranking check: {said}, mean over emotions" in " ".join(done.process.stdout.split())
    page = (done.result_folder / "report.html").read_text()
    assert said in page and (done.result_folder / "ranking.png").is_file()


def test_the_check_is_a_stage_of_its_own(tmp_path: Path) -> None:
    """It changes no score, is shared by what is done to the units, and is left out where it is not asked for."""
    words = ("intervention=ablate_heads", "intervention.k=1", "evaluator=projection")
    job = Job(config(tmp_path, *words, "attribution.check=2"))
    plain = Job(config(tmp_path, *words))
    assert job.attribution_address == plain.attribution_address
    assert ranking_check.rows(plain) == [] and ranking_check.points(job)
    other = (
        "intervention=enhance_heads",
        "intervention.k=1",
        "intervention.layers=0-1",
        *words[2:],
        "attribution.check=2",
    )
    assert ranking_check.points(Job(config(tmp_path, *other))) == ranking_check.points(job)
    assert len(list((tmp_path / "store" / "ranking").glob("*/manifest.json"))) == 1
    ranking_check.points(Job(config(tmp_path, *words, "attribution.check=1")))
    assert len(list((tmp_path / "store" / "ranking").glob("*/manifest.json"))) == 2
    assert ranking_check.points(Job(config(tmp_path, "attribution.check=2"))) == []
