"""The label sheet: nothing in it tells an arm, and a browser fills it in."""

from __future__ import annotations

import csv
import html
import json
import re
from pathlib import Path

import pytest
from support.played import play

from emo.core.errors import UserError
from emo.measure.people import read_people, text_id
from emo.report.label_sheet import write_sheet
from emo.results.replies import Reply, drawn

LABELS = ("anger", "sadness", "fear", "neutral")
TEXTS = ('I am "furious", truly.', "Line one\nline two </script><b>x</b>", "Oh no; it is 5 o'clock.", "=1+1", "Fine ü.")
SAVED = """
const made = [];
URL.createObjectURL = blob => { blob.text().then(text => made.push(text)); return "about:blank"; };
HTMLAnchorElement.prototype.click = function () { made.push(this.download); };
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const out = () => setTimeout(() => {
  const shown = document.createElement("pre");
  shown.id = "made"; shown.textContent = JSON.stringify([...made, at("place").textContent, at("rater").value]);
  document.body.append(shown);
}, 200);
"""


def replies() -> list[Reply]:
    return [
        Reply(text_id(text), text, "anger", i, {"job": "a1b2", "arm": "steer@alpha=2", "valence": "negative"})
        for i, text in enumerate(TEXTS)
    ]


def test_nothing_in_it_tells_where_a_reply_comes_from(tmp_path: Path) -> None:
    table, page = write_sheet(tmp_path, replies(), LABELS)
    rows = list(csv.DictReader(table.open(encoding="utf-8", newline="")))
    assert [(row["id"], row["label"], row["text"]) for row in rows] == [(text_id(t), "", t) for t in TEXTS]
    whole = page.read_text(encoding="utf-8")
    assert not re.search(r"steer|alpha|a1b2|negative", whole + table.read_text(encoding="utf-8"))
    assert whole.count("</script>") == 2  # that of a reply is none
    assert not re.search(r"https?://|src=|@import", whole)  # nothing is loaded


def test_a_sheet_that_may_hold_labels_is_not_written_over(tmp_path: Path) -> None:
    table, _ = write_sheet(tmp_path, replies(), LABELS)
    filled = table.read_text(encoding="utf-8").replace(f'"{text_id(TEXTS[4])}",""', f'"{text_id(TEXTS[4])}","fear"')
    table.write_text(filled, encoding="utf-8", newline="")
    write_sheet(tmp_path, replies(), LABELS)
    assert table.read_text(encoding="utf-8") == filled
    with pytest.raises(UserError, match="another label sheet is there"):
        write_sheet(tmp_path, replies()[:3], LABELS)


def test_replies_are_drawn_evenly_and_in_an_order_that_tells_nothing() -> None:
    rows = [
        Reply(f"{arm}{e}{i}", f"{arm} {e} {i}", e, i, {"arm": arm, "valence": ("positive", "negative")[i % 2]})
        for arm, n in (("steer", 40), ("random", 120)) for e in ("anger", "fear") for i in range(n)
    ]  # fmt: skip
    rows += [row._replace(row=row.row | {"arm": "none"}) for row in rows[:5]]  # equal texts
    found = drawn(rows, 40, seed=1)
    assert found == drawn(rows, 40, seed=1) != drawn(rows, 40, seed=2)
    assert len({row.id for row in found}) == 40
    counts = {arm: sum(row.row["arm"] == arm for row in found) for arm in ("steer", "random")}
    assert abs(counts["steer"] - counts["random"]) <= 5  # not 10 to 30, as the replies are
    arms = [row.row["arm"] for row in found]
    assert 10 < sum(a != b for a, b in zip(arms, arms[1:], strict=False)) < 35
    assert len(drawn(rows, None, 0)) == 320


@pytest.mark.slow
def test_it_is_filled_in_a_browser(tmp_path: Path) -> None:
    """By keys and clicks; what was done is there again the next time, and the saved file is read as labels."""
    _, page = write_sheet(tmp_path / "sheet", replies(), LABELS)
    play(
        page, SAVED + 'press("1"); at("label-3").click(); press("2"); press("ArrowLeft"); press("0"); out();', tmp_path
    )
    again = play(
        page,
        SAVED + 'press("4"); press("ArrowRight"); press("9"); press("x"); at("label-2").click();'
        'at("rater").value = "Ada L."; at("rater").dispatchEvent(new Event("input")); at("save").click(); out();',
        tmp_path,
    )
    made = re.search(r'<pre id="made">(.*?)</pre>', again, re.DOTALL)
    assert made is not None, again[-2000:]
    name, saved, place, rater = json.loads(html.unescape(made[1]))
    assert (name, rater) == ("Ada_L_.csv", "Ada L.") and place == "5 of 5, 1 without a label"
    (tmp_path / name).write_bytes(saved.encode())
    [found] = read_people([str(tmp_path / name)], {text_id(t): t for t in TEXTS}, ("anger", "sadness", "fear"))
    assert found.name == "Ada_L_"
    assert found.labels == {
        text_id(TEXTS[0]): "anger", text_id(TEXTS[1]): "fear", text_id(TEXTS[2]): "neutral",
        text_id(TEXTS[4]): "sadness",
    }  # fmt: skip
    assert "Line one\nline two </script>" in saved
