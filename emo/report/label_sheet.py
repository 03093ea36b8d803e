"""Replies for people to label: a table, and a page that is filled in with the keys 1 to 7.

Both hold an id, which is a digest of the text, and the text: nothing of model, arm, target or scenario. The page keeps
what was done in the browser, loads nothing, sends nothing, and writes the file that ``agreement.people`` reads.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path

from emo.core.errors import UserError
from emo.report.elements import text
from emo.report.scripts import web_file
from emo.results.replies import Reply

TABLE, PAGE = "labels.csv", "labels.html"
COLUMNS = ("id", "label", "text")
ASKED = (
    "Which one label fits the STYLE of the text? Go by how it is written (tone, attitude, choice of words), not by "
    "whether what happens in it is good or bad. neutral: the style expresses no emotion."
)
LOOK = """
#text { font-size: 1.25em; min-height: 6em; padding: 1em; background: #f5f5f5; white-space: pre-wrap; }
button { font: inherit; padding: .5em .9em; margin: .2em; border: 1px solid #888; border-radius: 4px; background: #fff;
  cursor: pointer; }
button.chosen { background: #0072B2; color: #fff; border-color: #0072B2; }
kbd { font-size: .8em; color: #666; margin-right: .4em; } .chosen kbd { color: #fff; }
"""
SCRIPT = """
"use strict";
const sheet = JSON.parse(document.getElementById("sheet").textContent);
const at = id => document.getElementById(id);
let done = {}, here = 0;
try { done = JSON.parse(localStorage.getItem(sheet.key)) || {}; at("rater").value = done.rater || ""; }
catch { at("kept").textContent = "This browser keeps nothing for pages from disk: save the file before you close it."; }
done.labels = done.labels || {};
const left = () => sheet.replies.filter(r => !done.labels[r.id]).length;
function keep() {
  done.rater = at("rater").value.trim();
  try { localStorage.setItem(sheet.key, JSON.stringify(done)); } catch { /* said above */ }
}
function show() {
  const reply = sheet.replies[here];
  at("text").textContent = reply.text;
  at("place").textContent = `${here + 1} of ${sheet.replies.length}, ${left()} without a label`;
  sheet.labels.forEach((name, i) => at(`label-${i + 1}`).classList.toggle("chosen", done.labels[reply.id] === name));
}
function move(step) { here = Math.min(sheet.replies.length - 1, Math.max(0, here + step)); show(); }
function choose(i) {
  done.labels[sheet.replies[here].id] = sheet.labels[i];
  keep(); move(1);
}
function clear() { delete done.labels[sheet.replies[here].id]; keep(); show(); }
const cell = value => `"${value.replaceAll('"', '""')}"`;
function written() {
  const rows = sheet.replies.map(r => [r.id, done.labels[r.id] || "", r.text].map(cell).join(","));
  return ["id,label,text", ...rows].join("\\r\\n") + "\\r\\n";
}
function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([written()], {type: "text/csv"}));
  link.download = `${at("rater").value.trim().replace(/[^\\w-]+/g, "_") || "rater"}.csv`;
  link.click();
}
sheet.labels.forEach((name, i) => at(`label-${i + 1}`).addEventListener("click", () => choose(i)));
at("back").addEventListener("click", () => move(-1));
at("next").addEventListener("click", () => move(1));
at("clear").addEventListener("click", clear);
at("save").addEventListener("click", save);
at("rater").addEventListener("input", keep);
document.addEventListener("keydown", event => {
  if (event.target === at("rater") || event.ctrlKey || event.metaKey || event.altKey) return;
  const number = Number(event.key);
  if (number >= 1 && number <= sheet.labels.length) choose(number - 1);
  else if (event.key === "ArrowLeft") move(-1);
  else if (event.key === "ArrowRight") move(1);
  else if (event.key === "Backspace" || event.key === "0") clear();
});
here = Math.max(0, sheet.replies.findIndex(r => !done.labels[r.id]));
show();
"""


def write_sheet(folder: Path, replies: Sequence[Reply], labels: Sequence[str]) -> tuple[Path, Path]:
    """Write the table and the page; returns their paths.

    Args:
        folder: made if it is not there.
        replies: in the order in which they are shown.
        labels: those to choose from; the first nine have a key.

    Raises:
        UserError: another sheet is there: it may hold labels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    table, page = folder / TABLE, folder / PAGE
    rows = [(reply.id, "", reply.text) for reply in replies]
    if table.is_file() and _ids(table) != [key for key, *_ in rows]:
        raise UserError(f"{table}: another label sheet is there; move it, or type name=NAME for a folder of its own")
    if not table.is_file():  # one that is there may hold labels already
        _write(table, _csv(rows))
    _write(page, _page(rows, labels))
    return table, page


def _ids(table: Path) -> list[str]:
    with table.open(encoding="utf-8", newline="") as file:
        return [row.get("id") or "" for row in csv.DictReader(file)]


def _csv(rows: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return out.getvalue()


def _write(path: Path, content: str) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_bytes(content.encode("utf-8", errors="replace"))
    os.replace(partial, path)


def _page(rows: Sequence[Sequence[str]], labels: Sequence[str]) -> str:
    replies = [{"id": key, "text": reply} for key, _, reply in rows]
    # A reply may hold a closing tag: none can stand in the script's data.
    key = "sheet " + " ".join(key for key, *_ in rows[:3]) + f" {len(rows)}"
    data = json.dumps({"key": key, "labels": list(labels), "replies": replies}).replace("<", "\\u003c")
    keys = [f"<kbd>{i}</kbd>" if i <= 9 else "" for i in range(1, len(labels) + 1)]
    buttons = "".join(
        f'<button id="label-{i}">{kbd}{text(name)}</button>'
        for i, (name, kbd) in enumerate(zip(labels, keys, strict=True), 1)
    )
    policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{len(rows)} replies to label</title>\n<style>{web_file('page.css')}{LOOK}</style></head>\n<body>\n"
        f"<h1>{len(rows)} replies to label</h1>\n<p>{text(ASKED)}</p>\n"
        f'<p id="place" class="small"></p>\n<div id="text"></div>\n<p>{buttons}</p>\n'
        '<p><button id="back">back</button><button id="next">next</button><button id="clear">no label</button></p>\n'
        '<p><label>your name: <input id="rater"></label> <button id="save">save the file</button></p>\n'
        '<p class="small">Keys: the numbers choose and go on, arrows go back and on, 0 takes a label away. What is '
        'done is kept in this browser. <span id="kept"></span></p>\n'
        f'<script type="application/json" id="sheet">{data}</script>\n<script>{SCRIPT}</script>\n</body></html>\n'
    )
