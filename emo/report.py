"""One run as one plain HTML page: self-contained, readable from disk and on paper.

Everything that comes from a model, a dataset or a user is escaped, and the page forbids itself scripts and
network by its content policy: a reply is text, whatever it contains.
"""

from __future__ import annotations

import base64
import html
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emo.console import format_estimate
from emo.stats import Estimate

SHOWN = 10  # sample prompts on the page; all of them are in samples.jsonl

CSS = """
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #222; max-width: 1000px; margin: 2em auto;
  padding: 0 1em; }
h1 { font-size: 1.6em; line-height: 1.25; } h2 { margin-top: 2em; border-bottom: 1px solid #ccc; }
table { border-collapse: collapse; width: 100%; margin: .7em 0; }
th, td { padding: .35em .7em; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
thead th { border-bottom: 2px solid #888; }
.numbers td, .numbers th + th { text-align: right; font-variant-numeric: tabular-nums; }
.ci { white-space: nowrap; } .small, caption, figcaption { color: #666; font-size: .88em; }
caption { caption-side: bottom; text-align: left; padding-top: .4em; }
.wide { overflow-x: auto; }
figure { margin: 1.5em 0; } img { max-width: 100%; height: auto; }
pre { background: #f5f5f5; padding: .8em; overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.facts th, .sample th { width: 9.5em; font-weight: 600; }
.sample { margin-bottom: 2em; } .sample td { white-space: pre-wrap; overflow-wrap: anywhere; }
.sample .prompt { background: #f5f5f5; }
.degenerate { color: #666; background: repeating-linear-gradient(135deg, #fff 0 9px, #f1f1f1 9px 11px); }
.mark { border: 1px solid #D55E00; color: #A84A00; border-radius: 3px; padding: 0 .35em; font-size: .8em; }
.notes li { margin: .3em 0; }
@media print { body { font-size: 11px; max-width: none; margin: 0; } figure, .sample { break-inside: avoid; }
  h2 { break-after: avoid; } }
"""


def write_report(
    folder: Path,
    *,
    title: str,
    command: str,
    config_yaml: str,
    summary_rows: Sequence[Mapping[str, Any]],
    columns: Sequence[str],
    notes: Sequence[str],
    figures: Sequence[tuple[Path, str]],
    samples: Sequence[Mapping[str, Any]],
    seconds: float,
    versions: Mapping[str, str],
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``folder/report.html`` and return its path.

    Args:
        folder: the run's folder; made if it is not there.
        title: what was run, in one line.
        command: the exact command line that gives this result again.
        config_yaml: the resolved configuration.
        summary_rows: one mapping per arm, from column to cell: an `Estimate`, a number, text, or None.
        columns: columns shown, in order; the first names the row (``arm``).
        notes: warnings and remarks, one paragraph each.
        figures: (PNG file, caption) in order; embedded.
        samples: ``{scenario, event, valence, emotion, replies: [{arm, text, degenerate}]}``; the first ten
            are shown.
        seconds: wall time of the run.
        versions: package -> version.
        facts: what was run, as name -> value (model, dataset, intervention, n ...), shown first.

    Raises:
        FileNotFoundError: a figure is not there.
    """
    body = [
        f"<h1>{_text(title)}</h1>",
        _facts(facts or {}),
        "<h2>Finding</h2>",
        _summary(summary_rows, columns),
        _section("Notes", "".join(f"<li>{_text(note)}</li>" for note in notes), '<ul class="notes">{}</ul>'),
        _section("Figures", "".join(_figure(path, caption) for path, caption in figures)),
        _section(
            f"Sample replies ({min(len(samples), SHOWN)} of {len(samples)} prompts)",
            "".join(_sample(i, sample) for i, sample in enumerate(samples[:SHOWN], start=1)),
        ),
        "<h2>To get this result again</h2>",
        f"<pre>{_text(command)}</pre>",
        f"<details><summary>Configuration</summary><pre>{_text(config_yaml)}</pre></details>",
        "<h2>Versions and time</h2>",
        _pairs({"wall time": f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"} | dict(versions)),
        f'<p class="small">Written {time.strftime("%Y-%m-%d %H:%M")}.</p>',
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / "report.html", folder / "report.html.tmp"
    # Half a surrogate pair, which a byte-level tokenizer can produce, must not cost the whole report.
    partial.write_bytes(_page(title, "\n".join(body)).encode("utf-8", errors="replace"))
    os.replace(partial, path)
    return path


def _page(title: str, body: str) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{_text(title)}</title>\n<style>{CSS}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _section(title: str, content: str, frame: str = "{}") -> str:
    """Return a headed section, or nothing where there is no content."""
    return f"<h2>{_text(title)}</h2>\n{frame.replace('{}', content)}" if content else ""


def _pairs(pairs: Mapping[str, Any]) -> str:
    rows = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in pairs.items())
    return f'<table class="facts">{rows}</table>'


def _facts(facts: Mapping[str, Any]) -> str:
    return _pairs(facts) if facts else ""


def _summary(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    sizes = {cell.n for row in rows for cell in row.values() if isinstance(cell, Estimate) and cell.n}
    common = len(sizes) <= 1  # one n for the whole table is said once, below it
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = ""
    for row in rows:
        first, *rest = (_cell(row.get(column), common) for column in columns)
        body += f"<tr><th>{first}</th>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>\n"
    size = f" n = {sizes.pop()} in every cell." if common and sizes else ""
    return (
        f'<div class="wide"><table class="numbers"><caption>Mean [95 % bootstrap interval over scenarios].'
        f"{size}</caption><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def _cell(cell: object, common: bool) -> str:
    if cell is None or (isinstance(cell, Estimate) and cell.value is None):
        return '<span class="small">not measured</span>'
    if isinstance(cell, Estimate):
        value, _, interval = format_estimate(cell).partition(" ")
        size = "" if common else f' <span class="small">n&nbsp;=&nbsp;{cell.n}</span>'
        return f'{value} <span class="ci small">{interval}</span>{size}'
    return _text(f"{cell:.3g}" if isinstance(cell, float) else cell)


def _figure(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure><img alt="{_text(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{_text(caption)}</figcaption></figure>\n"
    )


def _sample(number: int, sample: Mapping[str, Any]) -> str:
    head = f"{number}. {sample['emotion']}, {sample['valence']} event"
    rows = "".join(_reply(reply) for reply in sample["replies"])
    return (
        f'<table class="sample"><thead><tr><th colspan="2">{_text(head)}</th></tr></thead><tbody>'
        f'<tr class="prompt"><th>scenario</th><td>{_text(sample["scenario"])}</td></tr>'
        f'<tr class="prompt"><th>event</th><td>{_text(sample["event"])}</td></tr>\n{rows}</tbody></table>\n'
    )


def _reply(reply: Mapping[str, Any]) -> str:
    text = _text(reply["text"]) if str(reply["text"]).strip() else '<span class="small">(empty)</span>'
    mark, kind = (' <span class="mark">degenerate</span>', ' class="degenerate"') if reply["degenerate"] else ("", "")
    return f'<tr><th>{_text(reply["arm"])}{mark}</th><td{kind} dir="auto">{text}</td></tr>\n'
