"""Pages with charts and replies: valid, escaped, small, closed to the network; a chart that fails loses nothing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import altair
import pandas as pd
import pytest
from support.pages import EVIL, FOUND, NAMES, SETTINGS, TESTS, evil_page, replies, sweep_frame

from emo.core.errors import UserError
from emo.core.stats import Estimate
from emo.report import replies as reply_browser
from emo.report.charts import job, section, spec
from emo.report.charts.engine import engine
from emo.report.charts.export import export_page, on_paper
from emo.report.charts.job import job_charts
from emo.report.charts.sweep import sweep_charts
from emo.report.html import write_report
from emo.report.replies import Replies, replies_section

BLOCK = re.compile(r"<script([^>]*)>(.*?)</script>", re.DOTALL)


def made() -> list[spec.Chart]:
    """Return a chart of every kind."""
    frames = [
        sweep_frame({"intervention.alpha": [0.5, 1.0, 8.0], "model": ["a", EVIL]}),
        sweep_frame({"model": ["a", EVIL], "intervention.layers": ["0-1", "2-3"]}),
        sweep_frame({"intervention.alpha": [0.0, 1.0, 2.0], "intervention.layers": ["0-1", "2-3"]}),
    ]
    axes = [list(frame.columns[:2]) for frame in frames]
    swept = [chart for frame, own in zip(frames, axes, strict=True) for chart in sweep_charts(frame, own)]
    assert len(swept) == 3
    return [*job_charts(FOUND, NAMES, TESTS, SETTINGS, chance={"accuracy": 1 / 7}), *swept]


def test_every_chart_is_valid_vega_lite() -> None:
    charts = made()
    assert [chart.name for chart in charts[:-3]] == ["curve", "arms", "differences", "damage"]
    for chart in charts:
        values = chart.spec["data"]["values"]
        few = {"data": {"values": values[:1]}}  # rows are checked one by one, in a second per thousand
        altair.Chart.from_dict(chart.spec | few)  # against the schema of Vega-Lite
        assert values and all(row["value"] is not None for row in values)
        assert spec.unpacked(spec.packed(chart.spec)) == chart.spec


def test_every_axis_says_how_many_digits_it_shows() -> None:
    """Else d3 works them out from the ends, and between -0.1 and 0.12 writes the tick at 0.12 as 0.1."""
    formats = re.findall(r'"axis": {[^{}]*"format": "([^"]*)"', json.dumps([chart.spec for chart in made()]))
    assert formats and set(formats) == {".6~g"}


def test_an_axis_never_shows_rounding_errors() -> None:
    assert spec.shown(3e-17) == 0.0 and spec.shown(float("nan")) is None and spec.shown(0.1 + 0.2) == 0.3
    for values in ([3e-17, -1e-16], [0.0], [1 / 3, 1 / 3 + 1e-16], [None], []):
        lo, hi = spec.reach([spec.shown(x) for x in values])
        assert hi - lo >= 1
    lo, hi = spec.reach([0.2, None, 0.4])
    assert lo < 0.2 and hi > 0.4 and hi - lo < 0.3
    zero = {arm: {"kl": Estimate(1e-17, -2e-17, 3e-17, 6)} for arm in ("none", "steer")}
    [chart] = job_charts(zero, [], [], {})
    ends = next(param["value"] for param in chart.spec["params"] if param["name"] == "ends")
    assert ends == {"kl": [-0.06, 1.06]}


def test_a_page_is_closed_and_its_data_cannot_break_out(tmp_path: Path) -> None:
    text = evil_page(tmp_path, made()).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src 'none'; connect-src 'none'; base-uri 'none'; form-action 'none';" in policy[1]
    assert "unsafe-eval" not in policy[1] and "script-src 'sha256-" in policy[1]
    blocks = BLOCK.findall(text)
    assert text.count("<script") == len(blocks) == len(made()) + 1 + 1 + 3  # specs, replies, engine, own scripts
    allowed = set(re.findall(r"'sha256-([^']*)'", policy[1]))
    run = [content for kind, content in blocks if "type=" not in kind]
    packed = next(content for kind, content in blocks if 'id="engine"' in kind)
    scripts = [*(content.encode() for content in run), gzip.decompress(base64.b64decode(packed))]
    assert allowed == {base64.b64encode(hashlib.sha256(script).digest()).decode() for script in scripts}
    for kind, content in blocks:
        if "json" in kind:
            assert not re.search("[<>&\u2028\u2029]", content)
            assert json.loads(content)
    # Nothing that is loaded: text of a reply may name an address.
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:image/png|#)""", text)
    assert not re.search(r"@import|url\(|<link|<iframe|<object|<embed|<base", text)
    told = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert "https:" not in told.replace("https://example.org", "")


def test_many_replies_stay_on_a_small_page(tmp_path: Path) -> None:
    rows = replies(prompts=900, words=150)
    size = len("\n".join(json.dumps(row) for row in rows))
    assert size > 6_000_000
    page = evil_page(tmp_path, made(), rows)
    assert page.stat().st_size < 5_000_000
    text = page.read_text(encoding="utf-8")
    data = json.loads(next(content for kind, content in BLOCK.findall(text) if "replies-data" in kind))
    kept = len(data["replies"]["text"])
    assert kept + data["left_out"] == len(rows) and data["left_out"] > 0
    assert f"{len(rows):,} replies, {kept:,} of them on this page" in text
    assert len({len(column) for column in data["replies"].values()}) == 1
    shown = [data["arms"].index("steer"), data["arms"].index("none")]
    assert [data["first"], data["beside"]] == shown
    i = kept // 2
    scene = data["scenes"][data["replies"]["scene"][i]]
    assert any(row["sample"] == scene[0] and row["reply"] == data["replies"]["text"][i] for row in rows)
    few = replies_section(Replies(rows[:50], "steer", None), "", limit=3_000)
    assert len(few) < 3_500 and "samples.jsonl" in few
    assert replies_section(Replies([], "steer", None), "x") == ""


def test_a_chart_that_fails_costs_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no such thing")

    monkeypatch.setattr(job, "dots", broken)
    charts = section.drawable(lambda: job_charts(FOUND, NAMES, TESTS, SETTINGS))
    assert list(charts) == []
    assert "no interactive charts (RuntimeError: no such thing)" in " ".join(capsys.readouterr().out.split())
    monkeypatch.undo()
    monkeypatch.setattr(section, "engine", broken)
    assert list(section.drawable(made)) == []
    path = write_report(
        tmp_path, title="t", command="c", config_yaml="", summary_rows=[], columns=["arm"], notes=[], figures=[],
        samples=[], seconds=1.0, versions={}, charts=[],
    )  # fmt: skip
    text = path.read_text(encoding="utf-8")
    assert "<h2>Charts" not in text and 'id="engine"' not in text and "sha256-" in text


def test_the_engine_is_made_once_and_a_damaged_one_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vl_convert

    calls = []
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vl_convert, "javascript_bundle", lambda snippet: calls.append(snippet) or "draw();")
    first = engine.__wrapped__()
    assert engine.__wrapped__() == first and len(calls) == 1
    assert base64.b64decode(first.digest) == hashlib.sha256(b"draw();").digest()
    [path] = (tmp_path / "emo").iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    assert engine.__wrapped__() == first and len(calls) == 2


@pytest.mark.long
def test_svg_and_png_are_what_the_page_draws(tmp_path: Path) -> None:
    chart = made()[3]
    page = evil_page(tmp_path, [chart])
    paths = export_page(page)
    assert paths == [tmp_path / "charts" / f"damage.{kind}" for kind in ("svg", "png")]
    drawn = paths[0].read_text(encoding="utf-8")
    assert all(arm in drawn for arm in FOUND) and "emotion: all" in drawn and "perplexity ratio" in drawn
    assert paths[1].read_bytes().startswith(b"\x89PNG") and paths[1].stat().st_size > 10_000
    log = chart.spec | {"usermeta": {"log": {"field": "x", "type": "log", "first": True}}}
    scaled = [layer["encoding"]["x"] for layer in on_paper(log)["layer"] if "scale" in layer["encoding"].get("x", {})]
    assert scaled and all(x["scale"]["type"] == "log" and x["axis"]["title"].endswith("log scale") for x in scaled)
    with pytest.raises(UserError, match="it has no charts"):
        export_page(evil_page(tmp_path / "none", []))


def test_large_sweeps_leave_emotions_out(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = sweep_frame({"intervention.alpha": [0.5, 1.0, 8.0], "model": ["a", "b"]})
    axes = ["intervention.alpha", "model"]
    [whole] = sweep_charts(frame, axes)
    assert {row["part"] for row in whole.spec["data"]["values"]} == {"all", *NAMES}
    monkeypatch.setattr("emo.report.charts.sweep.MOST", 10)
    [small] = sweep_charts(frame, axes)
    assert {row["part"] for row in small.spec["data"]["values"]} == {"all"}
    assert sweep_charts(pd.DataFrame(), axes) == []
    assert reply_browser.LIMIT + 1_500_000 < 4_500_000
