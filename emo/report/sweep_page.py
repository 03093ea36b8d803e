"""One sweep as one HTML page (`emo.report.elements`): the finding, charts, the table, every job with its own report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from emo.core.console import format_estimate
from emo.core.frames import pd
from emo.core.metrics import metric_of
from emo.report import elements as page
from emo.report.charts.section import charts_section
from emo.report.charts.spec import Chart
from emo.report.sweep_corrected import SweepCorrected
from emo.report.sweep_table import Best, Setting, SweepTable, bounds_text, read_table, short_names

SHORT = 24  # rows of a table that may stand before the figures


class Row(NamedTuple):
    """One job of a sweep."""

    label: str  # its swept values
    state: str  # done | failed | missing
    folder: str  # of its result, relative to the sweep's
    wall_s: float | None  # seconds; None: not known
    error: str | None  # the line that says why it failed, or which of its replies are unjudged


def write_sweep_report(
    folder: Path,
    title: str,
    command: str,
    frame: pd.DataFrame,
    axes: Sequence[str],
    jobs: Sequence[Row],
    figures: Sequence[tuple[Path, str]],
    notes: Sequence[str],
    tables: str = "",
    sections: str = "",
    *,
    linked: bool = False,
    findings: Sequence[str] | None = None,
    verdicts: Mapping[str, Sequence[str]] | None = None,
    warning: str = "",
    differences: Sequence[str] = (),
    charts: Sequence[Chart] = (),
    corrected: SweepCorrected | None = None,
) -> Path:
    """Write ``folder/report.html`` and return its path.

    Args:
        folder: the sweep's folder; made if it is not there.
        title: what was swept, on what, in one line.
        command: the exact command line that runs the sweep again.
        frame: its results (see `emo.report.sweep_table.read_table`); may be empty.
        axes: swept keys, in order.
        jobs: every job of the sweep, finished or not; a finished one is linked to ``<job's folder>/report.html``.
        figures: (PNG file, caption) in order; embedded, or linked where they are large; folded below charts.
        notes: warnings and remarks, one paragraph each.
        tables: further tables, as HTML.
        sections: one for each finished job, as HTML (see `emo.report.job_sections`).
        linked: the sections show figures that lie beside the page.
        verdicts: job (16 hex digits) -> what must be read before its numbers: none of them is called the best.
        warning: what must be read before any finding.
        findings: what was found, in place of the best value; None: the best value.
        differences: how the settings compare, a sentence each.
        charts: interactive, shown behind the finding.
        corrected: what trusted labels say of it.

    Raises:
        FileNotFoundError: a figure is not there.
    """
    table = read_table(frame, axes)
    doubtful = verdicts or {}
    sound = frame[~frame["job"].isin(list(doubtful))] if len(frame) else frame
    best = read_table(sound, axes).best() if findings is None else None
    first = [warning] if warning else []
    first += [f"{job.label}: {line}" for job in jobs for line in doubtful.get(Path(job.folder).name, [])]
    numbers = _table(table, None if best is not None and best.alike else best, corrected) if table.cells else ""
    told = None if corrected is None or best is None else corrected.best_line(best.setting, best.arm, best.metric)
    pictures, far = page.figures(figures, folded=bool(charts))
    short = len(table.settings) * len(table.arms) <= SHORT
    body = [
        "<h2>Finding</h2>",
        *(f"<p><strong>{page.text(line)}</strong></p>" for line in first),
        *(
            f"<p>{page.text(line)}</p>"
            for line in [*differences, *(findings or _findings(table, best, told)), *_unfinished(jobs)]
        ),
        charts_section(charts),
        page.section("All numbers", numbers) if short else "",
        "" if corrected is None else corrected.section,
        tables,
        pictures,
        "" if short else page.section("All settings", numbers),
        page.section("Jobs", _jobs(jobs) + sections if jobs else ""),
        page.section("Notes", page.items(notes)),
        "<h2>To get this result again</h2>",
        f"<pre>{page.text(command)}</pre>",
    ]
    return page.write_page(folder, title, body, linked=linked or far, charts=bool(charts))


def _findings(table: SweepTable, best: Best | None, corrected: str | None = None) -> list[str]:
    """Say what is best, what it is without the labeller's error where that is known, and what that is worth."""
    lines = []
    if not table.cells:
        lines.append("Nothing was measured.")
    elif best is not None:
        among = f"with {bounds_text()}" if best.checked else "whose damage was not measured"
        if best.alike:
            arms = ", ".join(dict.fromkeys(arm for _, arm in best.tied))
            value = format_estimate(best.estimate._replace(lo=None, hi=None))
            return [
                f"{best.metric} is {value} for all {best.candidates} test values of {arms} {among}: no setting is "
                "better than another by it."
            ]
        others = len(best.tied) - 1
        equal = f" ({others} other{'s are' if others > 1 else ' is'} as high)" if others else ""
        lines.append(
            f"Best {best.metric} on the test values below: {format_estimate(best.estimate)}, arm {best.arm} at "
            f"{_words(table, best.setting)}{equal}; the highest of {best.candidates} values {among}."
        )
        lines += [_beside(table, best)] if table.beside(best.setting, best.arm, best.metric) else []
        lines += [] if corrected is None else [corrected]
        lines.append(
            "The best of several test values is selected on test, so it is too high on average: confirm it on the dev "
            "split or on other data before reporting it."
        )
    elif metric_of(table.metrics[0]).better == "higher":
        lines.append(f"No setting of {' or '.join(table.interventions())} has {bounds_text()}.")
    return lines


def _beside(table: SweepTable, best: Best) -> str:
    """Say which of the unedited model and the controls of its own setting the best value is above, and which not."""
    own = best.estimate
    said: dict[str, list[str]] = {"not above": [], "not shown to be above": [], "above, by intervals apart,": []}
    for name, x in table.beside(best.setting, best.arm, best.metric).items():
        if own.value is None or x.value is None or own.value <= x.value:
            word = "not above"
        elif own.lo is None or x.hi is None or own.lo <= x.hi:
            word = "not shown to be above"
        else:
            word = "above, by intervals apart,"
        said[word].append(f"{name} {format_estimate(x)}")
    parts = [f"{word} {', '.join(names)}" for word, names in said.items() if names]
    return f"At that setting it is {'; '.join(parts)}."


def _unfinished(jobs: Sequence[Row]) -> list[str]:
    """Say what is not in the table."""
    unfinished = [f"{count} {state}" for state, count in Counter(job.state for job in jobs).items() if state != "done"]
    return [f"Not in the table: {', '.join(unfinished)} of {len(jobs)} jobs."] if unfinished else []


def _words(table: SweepTable, setting: Setting) -> str:
    names = short_names(table.axes)
    return ", ".join(f"{names[axis]}={text}" for axis, text in zip(table.axes, setting, strict=True))


def _table(table: SweepTable, best: Best | None, corrected: SweepCorrected | None) -> str:
    """Return one row per setting and arm; a setting's values stand once, beside all of its arms.

    Where trusted labels correct a metric, a column beside it has what it is then.
    """
    beside = {metric for _, _, metric in corrected.beside.cells} if corrected is not None else set()
    common, size = page.common_size(x for (_, _, metric), x in table.cells.items() if metric in table.metrics)
    names = short_names(table.axes).values()
    head = "".join(f'<th class="text">{page.text(name)}</th>' for name in (*names, "arm"))
    for metric in table.metrics:
        head += page.heading(metric)
        if corrected is not None and metric in beside:
            head += page.heading(metric, f", corrected ({corrected.kind})")
    body = ""
    for setting in table.settings:
        arms = [arm for arm in table.arms if any(table.get(setting, arm, metric) for metric in table.metrics)]
        for i, arm in enumerate(arms):
            chosen = best is not None and (setting, arm) in best.tied
            kind = " ".join(["first"] * (not i) + ["best"] * chosen)  # the first of a setting has the line above it
            body += f'<tr class="{kind}">' if kind else "<tr>"
            again = " again" if i else ""  # of like rows the first says it; sorted, all do
            body += "".join(f'<th class="text setting{again}">{page.breakable(value)}</th>' for value in setting)
            body += f'<th class="text arm">{page.text(arm)}</th>'
            for metric in table.metrics:
                mark = '<span class="mark">best</span> ' if chosen and metric == table.metrics[0] else ""
                body += f"<td>{mark}{page.cell(table.get(setting, arm, metric), common)}</td>"
                if corrected is not None and metric in beside:
                    x = corrected.beside.get(setting, arm, metric)
                    body += f"<td>{'' if x is None else page.cell(x, True)}</td>"
            body += "</tr>\n"
    return page.numbers(head, body, size + page.COLUMNS, "numbers dense")


def _jobs(jobs: Sequence[Row]) -> str:
    if not jobs:
        return ""
    body = ""
    for job in jobs:
        name = page.text(job.label)
        if job.state == "done":  # the others have written no page
            name = f'<a href="{page.text(quote(f"{job.folder}/report.html"))}">{name}</a>'
        state = page.text(job.state) if job.state == "done" else f'<span class="mark">{page.text(job.state)}</span>'
        spent = "" if job.wall_s is None else page.duration(job.wall_s)
        body += f"<tr><td>{name}</td><td>{state}</td><td>{spent}</td><td>{page.text(job.error or '')}</td></tr>\n"
    counts = ", ".join(f"{count} {state}" for state, count in Counter(job.state for job in jobs).items())
    head = "<th>job</th><th>state</th><th>wall time</th><th>error</th>"
    return (
        f'<div class="wide"><table class="jobs"><caption>{page.text(counts)}.</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>"
    )
