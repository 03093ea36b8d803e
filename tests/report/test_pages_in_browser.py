"""Pages in a headless Chromium: charts answer clicks, tables sort, replies are filtered, nothing is cut."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import browser
from support.browser import Browser
from support.pages import FOUND, NAMES, SETTINGS, TESTS, evil_page, replies, sweep_frame

from emo.report.charts.job import job_charts
from emo.report.charts.sweep import sweep_charts
from emo.report.sweep_page import Row, write_sweep_report

pytestmark = [pytest.mark.slow, pytest.mark.skipif(browser.find() is None, reason="there is no Chromium here")]

REPLIES = 280  # prompts: 2,800 replies
AXES = ["model", "intervention.alpha"]
# Texts of a drawing that reach out of it, and boxes wider than the page.
CUT = """(() => {
  const cut = [];
  for (const svg of document.querySelectorAll('figure.chart svg.marks')) {
    const box = svg.getBoundingClientRect();
    for (const text of svg.querySelectorAll('text')) {
      const own = text.getBoundingClientRect();
      if (!own.width || getComputedStyle(text).opacity === '0') continue;
      if (own.left < box.left - 1 || own.right > box.right + 1 || own.top < box.top - 1 || own.bottom > box.bottom + 1)
        cut.push(text.textContent);
      if (text.textContent.endsWith('…')) cut.push(text.textContent);
    }
  }
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  if (wide > 0) cut.push(`the page is ${wide} px too wide`);
  return cut;
})()"""
TICKS = "[...document.querySelectorAll('figure.chart .role-axis-label text')].map((one) => one.textContent)"
AXES_TICKS = """[...document.querySelectorAll('figure.chart .role-axis')].map(
  (axis) => [...axis.querySelectorAll('.role-axis-label text')].map((one) => one.textContent))"""
POINTS = "document.querySelectorAll('{} .mark-symbol.role-mark path').length"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    charts = job_charts(FOUND, NAMES, TESTS, SETTINGS, chance={"accuracy": 1 / 7})
    return evil_page(tmp_path_factory.mktemp("job"), charts, replies(REPLIES))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = sweep_frame({"model": ["smollm2_135m", "gemma3_270m"], "intervention.alpha": [0.5, 1.0, 2.0, 8.0]})
    return write_sweep_report(
        tmp_path_factory.mktemp("sweep"), "alpha", "c", frame, AXES, [Row("a", "done", "0" * 16, 1.0, None)], [], [],
        charts=sweep_charts(frame, AXES),
    )  # fmt: skip


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser.chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def tab(chrome: Browser) -> Iterator[Browser]:
    chrome.errors.clear()
    chrome.asked.clear()
    chrome.look(1400)
    yield chrome
    assert chrome.errors == []
    assert all(url.startswith(("file:", "data:", "about:", "blob:")) for url in chrome.asked), chrome.asked


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [800, 1400])
@pytest.mark.parametrize("name", ["page", "sweep"])
def test_nothing_is_cut(
    tab: Browser, request: pytest.FixtureRequest, tmp_path: Path, name: str, width: int, dark: bool
) -> None:
    path = request.getfixturevalue(name)
    tab.look(width, dark=dark)
    tab.open(path)
    assert tab.run(CUT) == []
    assert not [tick for tick in tab.run(TICKS) if "e-1" in tick or "−1e" in tick]
    assert all(len(own) == len(set(own)) for own in tab.run(AXES_TICKS))
    tab.shot(tmp_path / "shot.png")
    assert (tmp_path / "shot.png").stat().st_size > 50_000
    back, ink = tab.run("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    assert (_light(back) < _light(ink)) == dark


def _light(colour: str) -> int:
    return sum(int(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3])


def test_a_legend_a_menu_a_scale_and_a_hover(tab: Browser, page: Path) -> None:
    tab.open(page)
    every = tab.run(POINTS.format("#chart-arms"))
    assert every == len(FOUND) * (1 + len(NAMES))
    x, y = tab.place("#chart-arms .role-legend-symbol path", 2)
    tab.mouse(x, y, click=True)
    tab.wait(f"{POINTS.format('#chart-arms')} === {1 + len(NAMES)}")
    legend = "document.querySelectorAll('#chart-arms .role-legend-label text').length"
    assert tab.run(legend) == len(FOUND)  # whole: what was clicked away can be clicked back
    # Another metric: another title, another axis.
    title = "document.querySelector('#chart-arms .role-title-text text').textContent"
    before = tab.run(title)
    tab.pick("#chart-arms select", "ppl_ratio")
    tab.wait(f"{title} !== {before!r}")
    assert "perplexity" in tab.run(title)
    # A number's axis is logarithmic or linear.
    button = "document.querySelector('#chart-curve button.scale')"
    axis = "document.querySelector('#chart-curve').textContent.includes('log scale')"
    label = tab.run(f"{button}.textContent")
    x, y = tab.place("#chart-curve button.scale")
    tab.mouse(x, y, click=True)
    tab.wait(f"{button}.textContent !== {label!r}")
    assert tab.run(axis)
    # Hovering says value, interval and n.
    x, y = tab.place("#chart-damage .mark-symbol.role-mark path", 1)
    tab.mouse(x + 1, y + 1)
    tab.wait("document.querySelector('#vg-tooltip-element')?.classList.contains('visible')")
    told = tab.run("document.querySelector('#vg-tooltip-element').textContent")
    assert "95 % interval" in told and "value" in told and "n" in told


def test_a_sweep_overlays_its_models(tab: Browser, sweep: Path) -> None:
    tab.open(sweep)
    lines = "document.querySelectorAll('#chart-outcomes .mark-line.role-mark path').length"
    assert tab.run(lines) == 2
    names = tab.run(NAMED)
    assert names == ["smollm2_135m", "gemma3_270m"]
    x, y = tab.place("#chart-outcomes .role-legend-symbol path", 1)
    tab.mouse(x, y, click=True)
    tab.wait(f"{lines} === 1")


COLUMN = (
    "[...document.querySelectorAll('table.numbers tbody tr')].filter((row) => !row.hidden)"
    ".map((row) => row.cells[{}].textContent)"
)
SORTED = "document.querySelector('table.numbers thead th[aria-sort]').getAttribute('aria-sort')"
NAMED = "[...document.querySelectorAll('#chart-outcomes .role-legend-label text')].map((text) => text.textContent)"
SAID = "[...document.querySelectorAll('#replies article .side:first-child .said')].map((one) => one.textContent)"


def test_a_table_sorts_and_filters(tab: Browser, sweep: Path) -> None:
    tab.open(sweep)
    column = COLUMN
    cells = [float(text.split()[0].removeprefix("best")) for text in tab.run(column.format(3))]
    x, y = tab.place("table.numbers thead button.sort", 3)
    tab.mouse(x, y, click=True)
    tab.mouse(x, y, click=True)
    found = [float(text.split()[0].removeprefix("best")) for text in tab.run(column.format(3))]
    assert found == sorted(cells) != cells
    assert tab.run(SORTED) == "ascending"
    tab.pick("input.find", "gemma3 steer")
    assert set(tab.run(column.format(0))) == {"gemma3_270m"} and set(tab.run(column.format(2))) == {"steer"}


CARDS = "document.querySelectorAll('#replies article').length"
COUNT = "document.querySelector('#replies .count').textContent"


def test_replies_are_filtered_compared_and_remembered(tab: Browser, page: Path) -> None:
    tab.open(page)
    assert tab.run(CARDS) == 50
    assert tab.run(COUNT).startswith(f"1–50 of {REPLIES * 3} ")  # steer, three emotions
    assert tab.run("document.querySelectorAll('#replies article .side').length") == 100  # none beside it
    assert tab.run("document.querySelectorAll('#replies article mark').length") > 100
    begun = time.monotonic()
    tab.pick("#replies [data-name=arm]", "any")
    assert time.monotonic() - begun < 1.0
    assert f"of {REPLIES * 10} " in tab.run(COUNT)
    tab.pick("#replies [data-name=arm]", "random")
    tab.pick("#replies [data-name=emotion]", "fear")
    tab.pick("#replies [data-name=valence]", "negative")
    tab.pick("#replies [data-name=label]", "=")
    tab.pick("#replies [data-name=degenerate]", "yes")
    tab.pick("#replies [data-name=find]", "random coffee")
    every = [row for row in replies(REPLIES) if row["arm"] == "random" and row["emotion"] == "fear"]
    kept = [row for row in every if row["valence"] == "negative" and row["label"] == "fear" and row["degenerate"]]
    kept = [row for row in kept if "coffee" in row["reply"]]
    assert 0 < len(kept) < 50
    assert tab.run(CARDS) == len(kept)
    texts = tab.run(SAID)
    assert texts == [row["reply"] for row in kept]
    # The address has it: opened again it shows the same; cleared it is empty.
    fragment = tab.run("location.hash")
    assert "emotion=fear" in fragment and "find=random+coffee" in fragment
    tab.open(page, fragment)
    assert tab.run(CARDS) == len(kept)
    tab.run("document.querySelector('#replies .clear').click()")
    assert tab.run("location.hash") == "" and tab.run(CARDS) == 50
    tab.open(page, "#arm=nobody&page=99&emotion=<b>")
    assert tab.run(CARDS) == REPLIES * 3 % 50  # the last page; what is not offered is not taken


def test_marks_are_what_differs(tab: Browser, page: Path) -> None:
    tab.open(page, "#arm=steer&beside=random&emotion=anger")
    pair = tab.run(
        "[...document.querySelector('#replies article').querySelectorAll('.said')].map((p) => "
        "[...p.childNodes].filter((c) => c.nodeName !== 'MARK').map((c) => c.textContent).join('').split(/\\s+/)"
        ".filter(Boolean))"
    )
    assert pair[0] == pair[1] and pair[0]  # without the marked words the two are the same


def test_without_scripts_the_replies_are_there(tab: Browser, page: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.call("Page.navigate", url=page.resolve().as_uri())
        time.sleep(1)
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    assert tab.run("document.querySelectorAll('#replies table.sample').length") == 1
    assert tab.run("document.querySelectorAll('#replies article').length") == 0


def test_paper_is_white_and_has_no_buttons(tab: Browser, page: Path) -> None:
    tab.look(800, dark=True, media="print")
    tab.open(page)
    assert tab.run("getComputedStyle(document.body).color") == "rgb(34, 34, 34)"
    assert tab.run("getComputedStyle(document.querySelector('#replies .filters')).display") == "none"
    assert tab.run("document.querySelectorAll('figure.chart svg').length") >= 4
