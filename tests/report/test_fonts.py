"""Names in scripts that the figures' own font does not know."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.ttLib.tables._g_l_y_f import Glyph
from matplotlib.font_manager import fontManager
from support.jobs import config, read_result

from emo.cli.run import run_job
from emo.config.emotions import check_emotions, is_name
from emo.core.errors import UserError
from emo.report.plots import fonts, off_target_figure

NAMES = ["喜び", "怒り"]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Only the fonts that come with matplotlib are installed, and nothing was said yet."""
    own = [font for font in fontManager.ttflist if "mpl-data" in font.fname]
    monkeypatch.setattr(fontManager, "ttflist", own)
    monkeypatch.setattr(fonts, "_said", set())
    fonts._covering.cache_clear()
    yield
    fonts._covering.cache_clear()


def draw(path: Path) -> bytes:
    """Draw a figure with names in two scripts and return its bytes."""
    return off_target_figure({"steer": np.eye(2, 3)}, NAMES, "喜び", path).read_bytes()


def install(folder: Path, characters: str) -> None:
    """Install a font that has some characters, as black squares."""
    path = folder / "squares.ttf"
    names = [".notdef", *(f"g{i}" for i in range(len(characters)))]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(c): f"g{i}" for i, c in enumerate(characters)})
    builder.setupGlyf({name: Glyph() for name in names})
    builder.setupHorizontalMetrics({name: (1000, 0) for name in names})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    fontManager.addfont(path)


def test_one_remark_where_no_font_has_a_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    """It stands there once, however many figures and letters there are; matplotlib's own warnings do not."""
    for i in range(3):
        draw(tmp_path / f"{i}.png")
    out = capsys.readouterr()
    assert (out.out + out.err).count("figures show boxes in place of びり喜怒: no installed font has them") == 1
    assert not [w for w in recwarn if "Glyph" in str(w.message)]


def test_an_installed_font_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = draw(tmp_path / "boxes.png")
    fonts._covering.cache_clear()
    capsys.readouterr()
    install(tmp_path, "喜怒びり")
    assert fonts._covering(frozenset("喜怒")) == ("Squares",)
    found = draw(tmp_path / "found.png")
    out = capsys.readouterr()
    assert found != boxes and "boxes" not in out.out + out.err


def test_names_in_any_script_run_to_the_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ('emotions.names=["喜び","غضب","क्रोध","😡"]', "evaluator=projection", "console=rich", "dataset.limit=3")
    assert run_job(config(tmp_path, *words, "control.arms=[]")) == 0
    out = capsys.readouterr().out
    assert out.count("figures show boxes") == 1
    assert "delta_s/क्रोध" in read_result(tmp_path)["arms"]["steer"]
    page = next(tmp_path.glob("run/*/report.html")).read_bytes().decode("utf-8")
    assert '<meta charset="utf-8">' in page and "😡" in page


@pytest.mark.parametrize("name", ["a/b", "a@b", "", " joy", "a=b", "joy\n", "-joy", "़joy", "a,b"])
def test_names_that_would_break_the_keys_of_metrics(tmp_path: Path, name: str) -> None:
    assert not is_name(name)
    made = config(tmp_path, "evaluator=projection")
    made.emotions.names = [name, "fear"]
    with pytest.raises(UserError, match=r"emotions\.names: "):
        check_emotions(made)
