"""Slots of pages: filled, emptied to the last byte, and left out of the digest of the page."""

from __future__ import annotations

from pathlib import Path

from emo.core.sealed import changed, file_digest
from emo.core.slots import filled, has_slot, slot

PAGE = f"<p>a\r\n</p>{slot('finding')}<h2>b</h2>{slot('corrected')}<p>c \u2028</p>"


def test_what_a_slot_holds_is_no_part_of_the_page(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(PAGE.encode())
    sealed = {path.name: file_digest(path)}
    full = filled(filled(PAGE, "corrected", "<b>\\1 two\nlines</b>"), "finding", "one")
    assert "<b>\\1 two\nlines</b>" in full and full.index("one") < full.index("<h2>b")
    path.write_bytes(full.encode())
    assert changed(tmp_path, sealed) == []
    assert filled(filled(full, "corrected", ""), "finding", "") == PAGE
    path.write_bytes(full.replace("<h2>b", "<h2>x").encode())
    assert changed(tmp_path, sealed) == [path.name]


def test_a_page_without_the_slot_stays_as_it_is() -> None:
    assert not has_slot("<p>old</p>", "finding") and filled("<p>old</p>", "finding", "x") == "<p>old</p>"


def test_only_pages_have_slots(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text(slot("finding", "a"))
    before = file_digest(path)
    path.write_text(slot("finding", "b"))
    assert file_digest(path) != before
