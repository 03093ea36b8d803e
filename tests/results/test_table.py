"""The table of results: axes, columns, variants of an arm, damaged files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import emo
from emo.core.errors import UserError
from emo.core.sealed import seal
from emo.results.table import axes_of, flatten, to_table, value_of


def config(model: str = "a", kind: str = "steer", **intervention: Any) -> dict[str, Any]:
    """Return the part of a configuration that the table reads."""
    given = {"kind": kind, "alpha": 1.0, "layers": "1-2"} | intervention
    return {
        "model": {"name": model, "id": model.upper()}, "dataset": {"name": "sev", "limit": 2}, "intervention": given,
        "batch_size": 3, "paths": {"store": model},
    }  # fmt: skip


def result(config: dict[str, Any], arms: tuple[str, ...] = ("none", "steer")) -> dict[str, Any]:
    """Return a finished result of one metric."""
    x = {"value": 0.5, "ci": [0.25, 0.75], "n": 4}
    address = (json.dumps(config["intervention"]).encode().hex() + config["model"]["name"] * 64)[-64:]
    return {"status": "done", "address": address, "config": config, "arms": {arm: {"delta_s": x} for arm in arms}}


def test_what_an_option_brings_along_is_no_axis() -> None:
    assert axes_of([config("a"), config("b")]) == ["model"]
    assert axes_of([config(alpha=1.0), config(alpha=2.0)]) == ["intervention.alpha"]
    assert axes_of([config(kind="steer"), config(kind="random")]) == ["intervention"]
    assert axes_of([config()]) == []
    one, two = config(), config()
    one["batch_size"], two["paths"] = 5, {"store": "elsewhere"}
    assert axes_of([one, two]) == []


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([0.5, 1.0, 2.0]), st.sampled_from(["1-2", 7, "all"])),
                min_size=1, max_size=18, unique=True))  # fmt: skip
def test_the_axes_tell_all_jobs_apart(jobs: list[tuple[str, float, Any]]) -> None:
    configs = [config(model, alpha=alpha, layers=layers) for model, alpha, layers in jobs]
    axes = axes_of(configs)
    seen = {tuple(str(value_of(flatten(c), axis)) for axis in axes) for c in configs}
    assert len(seen) == len(jobs)


def test_a_list_of_strengths_fills_its_column() -> None:
    several = config(alpha=[0.5, 1.0])
    frame = to_table([result(several, ("none", "steer@alpha=0.5", "steer@alpha=1"))], [])
    assert frame.attrs["axes"] == ["intervention.alpha"]
    found = dict(zip(frame["arm"], frame["intervention.alpha"], strict=True))
    assert found["steer@alpha=0.5"] == 0.5 and found["steer@alpha=1"] == 1.0
    assert frame["intervention.alpha"].isna().sum() == 1


def test_one_layer_among_ranges_stays_text() -> None:
    results = [result(config(layers=layers)) for layers in (7, "0.3-0.6")]
    frame = to_table(results, ["intervention.layers"])
    assert list(frame["intervention.layers"].unique()) == ["7", "0.3-0.6"]


def test_damaged_and_missing_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match="no such folder"):
        emo.load_results(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no finished result"):
        emo.load_results(tmp_path)
    for i, text in enumerate([json.dumps(seal(result(config()))), '{"status": "do', "[]"]):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "result.json").write_text(text)
    assert len(emo.load_results(tmp_path)) == 2
    assert capsys.readouterr().out.count("is damaged") == 2
