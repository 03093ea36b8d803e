"""What every page shares: its look, its content policy, and how text, numbers and figures stand in it.

A page is self-contained: readable from disk and on paper (only a sweep with very many figures links those of its
jobs). Everything that comes from a model, a dataset or a
user is escaped, and the page forbids itself scripts and network by its content policy: a reply is text,
whatever it contains.
"""

from __future__ import annotations

import base64
import html
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emo.core.console import format_estimate
from emo.core.stats import Estimate

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
.numbers .text { text-align: left; } .numbers .setting { overflow-wrap: anywhere; min-width: 5em; }
.dense { font-size: .8em; } .dense th, .dense td { padding: .15em .4em; } .dense .ci { display: block; }
.best .arm, .best td { background: #eef5fb; } .best .mark { border-color: #0072B2; color: #005A8D; }
.notes li { margin: .3em 0; }
.job { margin: 1em 0; border-top: 1px solid #ddd; } .job summary { font-weight: 600; padding: .5em 0; cursor: pointer; }
@media print { body { font-size: 11px; max-width: none; margin: 0; } figure, .sample { break-inside: avoid; }
  h2 { break-after: avoid; } }
"""


def write_page(folder: Path, title: str, body: Iterable[str], *, linked: bool = False) -> Path:
    """Write ``folder/report.html`` from its title and the HTML of its parts; returns its path.

    The file appears as a whole or not at all; ``folder`` is made if it is not there. A page with ``linked`` figures
    may show images that lie beside it.
    """
    written = f'<p class="small">Written {time.strftime("%Y-%m-%d %H:%M")}.</p>'
    images = "data: 'self' file:" if linked else "data:"
    whole = _page(title, "\n".join([f"<h1>{text(title)}</h1>", *body, written]), images)
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / "report.html", folder / "report.html.tmp"
    # Half a surrogate pair, which a byte-level tokenizer can produce, must not cost the whole report.
    partial.write_bytes(whole.encode("utf-8", errors="replace"))
    os.replace(partial, path)
    return path


def _page(title: str, body: str, images: str) -> str:
    policy = f"default-src 'none'; img-src {images}; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{CSS}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def text(value: object) -> str:
    """Return any value as escaped text."""
    return html.escape(str(value))


def section(title: str, content: str) -> str:
    """Return a headed section, or nothing where there is no content."""
    return f"<h2>{text(title)}</h2>\n{content}" if content else ""


def items(notes: Iterable[str]) -> str:
    """Return notes as a list; nothing where there are none."""
    lines = "".join(f"<li>{text(note)}</li>" for note in notes)
    return f'<ul class="notes">{lines}</ul>' if lines else ""


def duration(seconds: float) -> str:
    """Return a wall time with its unit."""
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def facts(pairs: Mapping[str, Any]) -> str:
    """Return a table of names and values; nothing where there are none."""
    if not pairs:
        return ""
    rows = "".join(f"<tr><th>{text(name)}</th><td>{text(value)}</td></tr>" for name, value in pairs.items())
    return f'<table class="facts">{rows}</table>'


def common_size(cells: Iterable[object]) -> tuple[bool, str]:
    """Return whether all estimates of a table have one n, and the sentence that says it below the table."""
    sizes = {x.n for x in cells if isinstance(x, Estimate) and x.n}
    return len(sizes) <= 1, f" n = {sizes.pop()} in every cell." if len(sizes) == 1 else ""


def numbers(head: str, body: str, size: str, look: str = "numbers") -> str:
    """Return a table of estimates.

    Args:
        head: HTML of its header cells.
        body: HTML of its rows.
        size: what is said of n, see `common_size`.
        look: its classes in `CSS`.
    """
    return (
        f'<div class="wide"><table class="{look}"><caption>Mean [95 % bootstrap interval over scenarios or groups, and '
        "over draws of controls]."
        f"{size}</caption><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def table(head: Iterable[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table of texts and estimates; the first cell of a row names it."""
    top = "".join(f"<th>{text(x)}</th>" for x in head)
    body = ""
    for first, *rest in rows:
        body += f"<tr><th>{text(first)}</th>{''.join(f'<td>{cell(x, True)}</td>' for x in rest)}</tr>\n"
    return (
        f'<div class="wide"><table class="numbers"><thead><tr>{top}</tr></thead><tbody>\n{body}</tbody></table></div>'
    )


def cell(value: object, common: bool) -> str:
    """Return the content of a table cell: an estimate with its interval, a number, or text.

    Args:
        value: what it shows; None, or an estimate without a value: not measured.
        common: every estimate of the table has the same n, which is said once, below it.
    """
    if value is None or (isinstance(value, Estimate) and value.value is None):
        return '<span class="small">not measured</span>'
    if isinstance(value, Estimate):
        large = max(abs(x) for x in value[:3] if x is not None) >= 100
        mean, _, interval = format_estimate(value, 0 if large else 2).partition(" ")
        size = "" if common else f' <span class="small">n&nbsp;=&nbsp;{value.n}</span>'
        return f'{mean} <span class="ci small">{interval}</span>{size}'
    return text(f"{value:.3g}" if isinstance(value, float) else value)


def figure(path: Path, caption: str) -> str:
    """Return an embedded PNG with its caption.

    Raises:
        FileNotFoundError: it is not there.
    """
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return _figure(f"data:image/png;base64,{data}", caption)


def linked_figure(href: str, caption: str) -> str:
    """Return a PNG that lies beside the page, ``href`` relative to it, with its caption."""
    return _figure(text(href), caption)


def _figure(source: str, caption: str) -> str:
    return f'<figure><img alt="{text(caption)}" src="{source}"><figcaption>{text(caption)}</figcaption></figure>\n'
