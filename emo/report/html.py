"""One run as one HTML page (see `emo.report.elements`): what was found, charts, numbers, figures, replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from emo.report import elements as page
from emo.report.charts.section import charts_section
from emo.report.charts.spec import Chart
from emo.report.corrected_section import slots
from emo.report.replies import Replies, replies_section

FEW = 6  # columns of a table that fit at full size
SHOWN = 10  # sample prompts where scripts do not run; all of them are in samples.jsonl


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
    tables: str = "",
    findings: Sequence[str] = (),
    found: Sequence[str] = (),
    too_few: str | None = None,
    charts: Sequence[Chart] = (),
    replies: Replies | None = None,
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
        figures: (PNG file, caption) in order; embedded, or linked where they are large; folded below charts.
        samples: ``{scenario, event, valence, emotion, replies: [{arm, text, degenerate}]}``; the first ten
            are shown, where scripts do not run or there is no browser of all replies.
        seconds: wall time of the run.
        versions: package -> version.
        tables: further sections, as HTML.
        findings: sentences that a reader must see before any number.
        found: what the numbers say, a sentence each.
        facts: what was run, as name -> value (model, dataset, intervention, n ...), shown first.
        too_few: why no number has an interval, for the line under the table; None: they have.
        charts: interactive, shown before the numbers.
        replies: all of them, for the reply browser.

    Raises:
        FileNotFoundError: a figure is not there.
    """
    pictures, linked = page.figures(figures, folded=bool(charts))
    some = f"Sample replies ({min(len(samples), SHOWN)} of {len(samples)} prompts)"
    shown = "".join(_sample(i, sample) for i, sample in enumerate(samples[:SHOWN], start=1))
    browser = "" if replies is None else replies_section(replies, f"<h3>{page.text(some)}</h3>\n{shown}")
    sentence, corrected = slots()
    body = [
        *(f"<p><strong>{page.text(line)}</strong></p>" for line in findings),
        page.section("Finding", "".join(f"<p>{page.text(line)}</p>" for line in found)),
        sentence,
        page.facts(facts or {}),
        charts_section(charts),
        "<h2>All numbers</h2>",
        _summary(summary_rows, columns, too_few),
        corrected,
        page.section("Notes", page.items(notes)),
        pictures,
        tables,
        browser or page.section(some, shown),
        "<h2>To get this result again</h2>",
        f"<pre>{page.text(command)}</pre>",
        f"<details><summary>Configuration</summary><pre>{page.text(config_yaml)}</pre></details>",
        "<h2>Versions and time</h2>",
        page.facts({"wall time": page.duration(seconds)} | dict(versions)),
    ]
    scripts = ["tables", *(["replies"] if browser else [])]
    return page.write_page(folder, title, body, linked=linked, scripts=scripts, charts=bool(charts))


def _summary(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], too_few: str | None) -> str:
    common, size = page.common_size(value for row in rows for value in row.values())
    size += f" {too_few[0].upper()}{too_few[1:]}." if too_few else ""
    head = "".join(map(page.heading, columns))
    body = ""
    for row in rows:
        first, *rest = (page.cell(row.get(column), common) for column in columns)
        body += f"<tr><th>{first}</th>{''.join(f'<td>{cell}</td>' for cell in rest)}</tr>\n"
    return page.numbers(head, body, size + page.COLUMNS, "numbers dense" if len(columns) > FEW else "numbers")


def _sample(number: int, sample: Mapping[str, Any]) -> str:
    event = f'<tr class="prompt"><th>event</th><td>{page.text(sample["event"])}</td></tr>\n' if sample["event"] else ""
    head = f"{number}. {sample['emotion']}" + (f", {sample['valence']} event" if event else "")
    rows = "".join(_reply(reply) for reply in sample["replies"])
    return (
        f'<table class="sample"><thead><tr><th colspan="2">{page.text(head)}</th></tr></thead><tbody>'
        f'<tr class="prompt"><th>scenario</th><td>{page.text(sample["scenario"])}</td></tr>'
        f"{event}{rows}</tbody></table>\n"
    )


def _reply(reply: Mapping[str, Any]) -> str:
    text = page.text(reply["text"]) if str(reply["text"]).strip() else '<span class="small">(empty)</span>'
    label = f' <span class="small">{page.text(reply["label"])}</span>' if reply.get("label") else ""
    mark, kind = (' <span class="mark">degenerate</span>', ' class="degenerate"') if reply["degenerate"] else ("", "")
    return f'<tr><th>{page.text(reply["arm"])}{label}{mark}</th><td{kind} dir="auto">{text}</td></tr>\n'
