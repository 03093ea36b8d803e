"""What every page shares: its look, and how text, numbers and figures stand in it.

A page is self-contained: readable from disk and on paper, without a network (only very many figures are linked, and lie
beside it). Everything that comes from a model, a dataset or a user is escaped, and the page's content policy allows its
own scripts alone (`emo.report.scripts`): a reply is text, whatever it contains.
"""

from __future__ import annotations

import base64
import html
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from emo.core.console import format_estimate
from emo.core.metrics import metric_of
from emo.core.stats import Estimate
from emo.report.charts.engine import engine
from emo.report.scripts import policy, script_block, web_file

EMBEDDED = 1_500_000  # bytes of figures, as they stand in a page, that it holds itself; beyond, it links them
BASE64 = 4 / 3  # characters of an embedded image per byte of its file
COLUMNS = " What a column is stands where the mouse is on its name, and in docs/usage.md, Reading the table."


def write_page(
    folder: Path,
    title: str,
    body: Iterable[str],
    *,
    linked: bool = False,
    scripts: Sequence[str] = ("tables",),
    charts: bool = False,
) -> Path:
    """Write ``folder/report.html`` from its title and the HTML of its parts; returns its path.

    The file appears as a whole or not at all; ``folder`` is made if it is not there.

    Args:
        folder: where it goes.
        title: of the page.
        body: its parts.
        linked: it may show images that lie beside it.
        scripts: names of files in ``web/``, in the order in which they run.
        charts: it has charts, so that it needs what draws them.
    """
    written = f'<p class="small">Written {time.strftime("%Y-%m-%d %H:%M")}.</p>'
    whole = _page(title, "\n".join([f"<h1>{text(title)}</h1>", *body, written]), linked, list(scripts), charts)
    folder.mkdir(parents=True, exist_ok=True)
    path, partial = folder / "report.html", folder / "report.html.tmp"
    # Half a surrogate pair, which a byte-level tokenizer can produce, must not cost the whole report.
    partial.write_bytes(whole.encode("utf-8", errors="replace"))
    os.replace(partial, path)
    return path


def _page(title: str, body: str, linked: bool, scripts: list[str], charts: bool) -> str:
    digests, drawn = [], ""
    if charts:
        own = engine()
        digests, scripts = [own.digest], [*scripts, "charts"]
        drawn = f'<script type="text/plain" id="engine">{own.packed}</script>\n'
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy(scripts, digests, linked)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{web_file('page.css')}</style></head>\n<body>\n{body}\n"
        f"{drawn}{''.join(map(script_block, scripts))}</body></html>\n"
    )


def text(value: object) -> str:
    """Return any value as escaped text."""
    return html.escape(str(value))


def breakable(name: object) -> str:
    """Return a name that may be broken behind an underscore: tables of many columns are wide."""
    return text(name).replace("_", "_<wbr>")


def heading(metric: str, more: str = "") -> str:
    """Return the header cell of a metric, with more words behind its name; its label and unit stand under the mouse."""
    label = metric_of(metric).label
    told = f' title="{text(label)}"' if label != metric else ""
    return f"<th{told}>{breakable(metric)}{text(more)}</th>"


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
        look: its classes in web/page.css.
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


def figures(shown: Sequence[tuple[Path, str]], folded: bool, embedded: int = EMBEDDED) -> tuple[str, bool]:
    """Return figures (PNG file, caption), and whether they are linked: too large for the page, they lie beside it.

    Args:
        shown: in order.
        folded: the page shows something better first.
        embedded: bytes that the page may hold of them.

    Raises:
        FileNotFoundError: a figure is not there.
    """
    linked = sum(path.stat().st_size for path, _ in shown) * BASE64 > embedded
    whole = "".join(
        linked_figure(quote(path.name), caption) if linked else figure(path, caption) for path, caption in shown
    )
    if not folded or not whole:
        return section("Figures", whole), linked
    count = f"{len(shown)} figures" if len(shown) > 1 else "1 figure"
    return f'<details class="figures"><summary>{count} as PNG</summary>\n{whole}</details>\n', linked


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
