"""An arm of which numbers explode (nan, inf) costs its own values: they are null and counted, and the job goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.forced import scored
from support.jobs import config, read_result, read_rows
from torch import Tensor

from emo.cli.run import run_job
from emo.config import values
from emo.core.types import Site
from emo.measure.projections import projections
from emo.model import generate as generating
from emo.model.generate import generate
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.ops import Add
from emo.model.passes import Row
from emo.pipeline import extracted

pytestmark = pytest.mark.usefixtures("quiet")
KEYS = ("sample", "emotion", "seed")
PROMPTS = [[3, 4, 5, 6], [3, 4, 7], [8, 9, 3, 4, 5]]
SPLIT = ("dataset.limit=5", "dataset.valences=[positive]", "emotions.names=[anger,fear]", "control.seeds=1")


@pytest.fixture(scope="module", autouse=True)
def any_strength() -> Iterator[None]:
    """Let a strength be typed that explodes for sure; on a large model in half precision ordinary ones can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "LARGEST", 1e38)
        yield


def edits(lm: LM, strengths: list[float]) -> list[Edit]:
    """Return an edit with one condition per strength; one of nan stands for whatever explodes."""
    v = torch.randn(1, lm.d, generator=torch.Generator().manual_seed(0))
    op = Add(v / v.norm(), torch.zeros(len(strengths), dtype=torch.long), torch.tensor(strengths), "rel")
    return [Edit(Site.RESID_POST, 1, op)]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_rows_of_one_tree_do_not_explode_together(models: dict[str, LM], bad: float) -> None:
    """Zero weight times nan is nan: without care one condition's explosion reaches all conditions of its prompt."""
    for lm in models.values():
        rows = [Row(p, c, reply=(5, 6, 7)) for p in range(len(PROMPTS)) for c in (-1, 0, 1)]
        asked = [row._replace(reply=()) for row in rows]
        v = torch.eye(lm.d)[:2, None].expand(2, lm.n_layers, lm.d)
        healthy, sick = edits(lm, [0.5, 0.5]), edits(lm, [0.5, bad])
        kept = [i for i, row in enumerate(rows) if row.cond < 1]
        lost = [i for i, row in enumerate(rows) if row.cond == 1]

        def scores(made: list[Edit], lm: LM = lm, rows: list[Row] = rows) -> dict[int, Tensor]:
            return {s.row: s.log_probs for s in scored(lm, PROMPTS, rows, made, 8, None)}

        one, other = scores(healthy), scores(sick)
        assert all((one[i] - other[i]).abs().max() <= 1e-5 for i in kept)
        assert all(other[i].isnan().all() for i in lost)
        one, other = (projections(lm, PROMPTS, asked, made, v, 8)[0] for made in (healthy, sick))
        assert (one[kept] - other[kept]).abs().max() <= 1e-5
        assert not other[lost].isfinite().all((1, 2)).any()
        exploded: set[int] = set()
        before = generate(lm, PROMPTS, asked, healthy, 5, 8)
        after = generate(lm, PROMPTS, asked, sick, 5, 8, exploded=exploded)
        assert [before[i] for i in kept] == [after[i] for i in kept]
        assert exploded == set(lost)
        assert all(after[i] == [] for i in lost)


def test_a_reply_ends_where_its_logits_explode(models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written before stands; -inf is no explosion, it rules a token out."""
    lm, calls = models["llama"], iter(range(100))
    whole = generate(lm, PROMPTS[:1], [Row(0)], [], 6, 1)[0]
    assert len(whole) == 6
    plain = type(lm).logits

    def logits(self: LM, x: Tensor) -> Tensor:
        out, step = plain(self, x).clone(), next(calls)
        out[..., 0] = -math.inf
        out[..., 1] = math.nan if step == 3 else out[..., 1]
        return out

    monkeypatch.setattr(type(lm), "logits", logits)
    exploded: set[int] = set()
    assert generate(lm, PROMPTS[:1], [Row(0)], [], 6, 1, exploded=exploded)[0] == whole[:3]
    assert exploded == {0}
    assert generating.EXPLODED not in range(lm.config.vocab_size)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any], Path]:
    """Return a job beside which nothing explodes, one in which a strength does, and the latter's folder."""
    found = []
    for other in ("2", "1e30"):
        folder = tmp_path_factory.mktemp("out")
        made = config(folder, *SPLIT, f"intervention.alpha=[1,{other}]")
        assert run_job(made) == 0
        found.append(read_result(folder))
    return found[0], found[1], next(folder.glob("run/*"))


def test_the_other_arms_have_the_numbers_of_a_job_without_it(
    results: tuple[dict[str, Any], dict[str, Any], Path],
) -> None:
    """Values, intervals and n, arm by arm."""
    healthy, sick, _ = results
    arms = [arm for arm in sick["arms"] if not arm.endswith("1e+30")]
    assert arms == ["none", "prompt", "steer@alpha=1", "random@alpha=1", "shuffled@alpha=1"]
    for arm in arms:
        assert healthy["arms"][arm].keys() == sick["arms"][arm].keys()
        for metric, x in sick["arms"][arm].items():
            y = healthy["arms"][arm][metric]
            assert x["n"] == y["n"], (arm, metric)
            ends = [[z["value"], *(z["ci"] or [])] for z in (x, y)]
            assert ends[0] == pytest.approx(ends[1], abs=2e-5, nan_ok=False), (arm, metric)


def test_what_exploded_is_null_counted_and_said(results: tuple[dict[str, Any], dict[str, Any], Path]) -> None:
    """JSON stays JSON; the report and the rows say how many of how many."""
    _, sick, folder = results
    own = sick["arms"]["steer@alpha=1e+30"]
    assert not {"delta_s", "logprob_margin", "kl", "dose", "ppl_ratio"} & set(own)
    assert own["degenerate"]["value"] == 1
    counts = sick["exploded"]["steer@alpha=1e+30"]
    assert counts["projections"] == counts["margins"] == counts["replies"] == [10, 10]
    assert set(sick["exploded"]) == {"steer@alpha=1e+30", "random@alpha=1e+30", "shuffled@alpha=1e+30"}
    for row in (row for row in sick["comparisons"] if row["arm"] == "steer@alpha=1e+30"):
        assert (row["value"], row["ci"], row["p"]) == (None, None, None)
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "steer@alpha=1e+30: numbers exploded (nan or inf) in 10 of 10 projections" in html
    text = (folder / "result.json").read_text(encoding="utf-8")
    assert "NaN" not in text and "Infinity" not in text
    assert sum(row.get("exploded", False) for row in read_rows(folder / "samples.jsonl")) == 10 + 5 + 10 * 3
    json.dumps(sick, allow_nan=False)


@pytest.mark.parametrize("judge", ["none", "classifier"])
def test_a_strength_that_explodes_is_not_chosen(judge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the margin nor by labels, which call every reply right here."""

    def right(_: Any, __: Any, replies: list[dict[str, Any]], ___: str) -> list[dict[str, Any]]:
        return [{key: row[key] for key in KEYS} | {"label": row["emotion"], "forced": None} for row in replies]

    monkeypatch.setattr(extracted, "label_rows", right)
    words = (*SPLIT, f"elicitation.judge={judge}", "evaluator=projection", "intervention.alpha=auto")
    bounds = ("intervention.select.max_degenerate=1", "intervention.select.max_ppl_ratio=1e6")
    assert run_job(config(tmp_path, *words, *bounds, "intervention.select.alpha=[1e30,0.5]")) == 0
    chosen = read_result(tmp_path)["chosen"]
    assert chosen["alpha"] == 0.5 and chosen["feasible"]
    [bad] = [row for row in chosen["tried"] if row["alpha"] == 1e30]
    assert bad["feasible"] is not True
    assert np.isfinite([row["score"] for row in chosen["tried"] if row["score"] is not None]).all()


def test_where_every_strength_explodes_the_job_still_ends(tmp_path: Path) -> None:
    """Nothing is feasible; the choice says so."""
    words = (*SPLIT, "evaluator=projection", "intervention.alpha=auto", "intervention.select.alpha=[1e30,1e31]")
    assert run_job(config(tmp_path, *words)) == 0
    chosen = read_result(tmp_path)["chosen"]
    assert not chosen["feasible"]
