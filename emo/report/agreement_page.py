"""What `task=agreement` leaves: tables as CSV, and a page to read."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from emo.core.console import format_estimate
from emo.core.stats import Estimate
from emo.report import elements as page
from emo.report.corrected_section import CORRECTED, differences_table, lacking_line, shares_table
from emo.report.plots.corrected import corrected_arms, corrected_curve
from emo.results.agreement import Agreement, Compared, Labels, disagreements, per_class
from emo.results.arm_order import base_name
from emo.results.corrected import Share, Tables
from emo.results.replies import Replies

READ = 60  # disagreements on the page; disagreements.csv has all
DRAWN = "clean_accuracy"  # metric of the figures
ARMS = 24  # of a figure
COPIES = 0.2  # share of an arm's replies that may be copies without a word
SETTINGS = ("alpha", "scale", "k", "ratio")  # numbers of an intervention that sweeps vary
KAPPA = (
    "Cohen's kappa: agreement beyond chance, 0 is chance and 1 all equal. Where almost all replies are of one class "
    "kappa is low however few differ: read it beside the share."
)
ONCE = (
    "A text that several replies have was labelled once and counts once; of what depends on the target, once for each "
    "target."
)
INFLATION = (
    "A judge that is told the target and asked whether the style matches says yes more often than one that has to name "
    "the emotion names it: accuracies of the two questions are no comparison."
)


def write_agreement(
    folder: Path, replies: Replies, labellers: Sequence[Labels], found: Agreement, corrected: Tables | None
) -> Path:
    """Write agreement.csv, classes.csv, disagreements.csv, corrected.csv and report.html; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "agreement.csv", map(_pair_row, found.pairs))
    classes = [{"first": x.first, "second": x.second, **row} for x in _naming(found) for row in _classes(x)]
    write_table(folder / "classes.csv", classes)
    differ = disagreements(replies.rows, labellers)
    write_table(folder / "disagreements.csv", differ)
    (folder / "corrected.csv").unlink(missing_ok=True)  # of an earlier line
    if corrected is not None:
        write_table(folder / "corrected.csv", _corrected_rows(corrected, replies))
    scenarios = len({reply.cluster for reply in replies.rows})
    body = [
        page.facts(
            {"replies": len(replies.rows), "different": len(replies.texts()), "scenarios": scenarios,
             "runs": len(replies.results) or "none: a file", "labellers": ", ".join(x.name for x in labellers)}
        ),
        page.section("Who agrees with whom", _pairs(found)),
        page.section("On target", _targets(found)),
        page.section("Corrected accuracy", "" if corrected is None else _corrected(corrected, replies, folder)),
        page.section("Class by class", "".join(_confusion(x) for x in _naming(found))),
        page.section(f"Disagreements ({min(READ, len(differ))} of {len(differ)})", _read(differ[:READ], labellers)),
    ]  # fmt: skip
    return page.write_page(folder, f"Agreement of {len(labellers)} labellers", body)


def write_table(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all; columns are those of the first row, nothing where there is none."""
    whole = list(rows)
    partial = path.with_suffix(".tmp")
    with partial.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.DictWriter(file, list(whole[0]) if whole else [], extrasaction="raise")
        writer.writeheader()
        writer.writerows(whole)
    os.replace(partial, path)


def _naming(found: Agreement) -> list[Compared]:
    return [x for x in found.pairs if x.pair.classes == found.classes]


def _spread(name: str, x: Estimate | None) -> dict[str, Any]:
    """Return the columns of an estimate."""
    value, lo, hi = (None, None, None) if x is None else x[:3]
    return {name: value, f"{name}_lo": lo, f"{name}_hi": hi}


def _pair_row(x: Compared) -> dict[str, Any]:
    of = "target" if x.pair.classes == (0, 1) else "class"
    own = {"first": x.first, "second": x.second, "of": of, "texts": x.pair.kappa.n, "replies": x.replies}
    return own | _spread("equal", x.pair.agreement) | _spread("kappa", x.pair.kappa)


def _classes(x: Compared) -> list[dict[str, Any]]:
    columns = {f"called {name}": x.pair.confusion[:, i] for i, name in enumerate(x.pair.classes)}
    place = {name: i for i, name in enumerate(x.pair.classes)}
    return [row | {key: int(own[place[row["class"]]]) for key, own in columns.items()} for row in per_class(x.pair)]


def _pairs(found: Agreement) -> str:
    rows = [[f"{x.first} / {x.second}", _of(x), x.texts, x.pair.agreement, x.pair.kappa] for x in found.pairs]
    head = ["labellers", "about", "texts", "equal (share)", "Cohen's kappa"]
    notes = [ONCE, KAPPA]
    if found.fleiss is not None and found.fleiss.value is not None:
        notes.insert(0, f"Fleiss' kappa of all that name classes: {format_estimate(found.fleiss)}.")
    return page.table(head, rows) + page.items(notes)


def _of(x: Compared) -> str:
    return "on target or not" if x.pair.classes == (0, 1) else "the class"


def _targets(found: Agreement) -> str:
    if not found.targets:
        return ""
    told = [
        f"{x.told} finds the target in {format_estimate(x.share_told)}, {x.blind} in "
        f"{format_estimate(x.share_blind)} of the same {x.more.difference.n} texts: "
        f"{format_estimate(x.more.difference)} more."
        for x in found.inflation
    ]
    rows = [[name, x.n, x] for name, x in found.targets.items()]
    return page.table(["labeller", "texts and targets", "on target (share)"], rows) + page.items(
        [*told, *([INFLATION] if told else [])]
    )


def _corrected(tables: Tables, replies: Replies, folder: Path) -> str:
    parts = [shares_table(tables.shares, jobs=True), differences_table(tables.differences, jobs=True)]
    notes = [CORRECTED]
    if tables.lacking:
        notes.append(lacking_line(tables.lacking))
    if line := copies_line(replies):
        notes.append(line)
    return "".join(parts) + page.items(notes) + _figures(tables, replies, folder)


def copies_line(replies: Replies) -> str | None:
    """Return what is to be said of arms many of whose replies are copies: intervals take each for one more label.

    A run whose replies repeat (a small model that loops, short replies) has fewer different errors than replies.
    """
    texts: dict[str, Counter[str]] = {}
    for reply in replies.rows:
        texts.setdefault(str(reply.row.get("arm", "the file")), Counter())[reply.text] += 1
    shares = {arm: 1 - len(known) / known.total() for arm, known in texts.items()}
    many = ", ".join(f"{arm} {share:.0%}" for arm, share in shares.items() if share > COPIES)
    if not many:
        return None
    return (
        f"Replies that are copies of another one: {many}. A label stands for all copies of its text, and whoever "
        "is wrong about it is wrong about each of them: the corrected intervals are too narrow there."
    )


def _figures(tables: Tables, replies: Replies, folder: Path) -> str:
    """Draw the clean accuracies of the arms, and of an arm along each number that was swept."""
    for path in folder.glob("corrected*.png"):
        path.unlink()  # of an earlier line
    whole = [x for x in tables.shares if x.emotion is None and x.metric == DRAWN]
    if not whole:
        return ""
    many = len({x.job for x in whole}) > 1
    rows = [(f"{x.arm} ({x.job[:6]})" if many else x.arm, _shares(x)) for x in whole[:ARMS]]
    drawn = [(corrected_arms(rows, DRAWN, "Clean accuracy, raw and corrected", folder / "corrected.png"), CORRECTED)]
    for (arm, key), points in _swept(whole, replies).items():
        path, title = folder / f"corrected_{len(drawn)}.png", f"Clean accuracy of {arm}, raw and corrected"
        drawn.append((corrected_curve(points, key, DRAWN, title, path), f"{title}, along {key}."))
    return "".join(page.figure(path, caption) for path, caption in drawn)


def _shares(x: Share) -> dict[str, Estimate]:
    found = {"raw": x.raw, "prediction-powered": x.powered.estimate, "confusion matrix": x.confusion}
    return {kind: one for kind, one in found.items() if one is not None}


def _swept(whole: Sequence[Share], replies: Replies) -> dict[tuple[str, str], list[tuple[float, dict[str, Estimate]]]]:
    """Return the points of every arm along a setting with three values or more, in one job or over jobs."""
    found: dict[tuple[str, str], list[tuple[float, dict[str, Estimate]]]] = {}
    for x in whole:
        result = replies.results[x.job]
        own = (result.get("settings") or {}).get(x.arm) or {}
        given = result["config"]["intervention"]
        single = {key: given[key] for key in SETTINGS if isinstance(given.get(key), int | float)}
        for key, value in (single | own).items():
            found.setdefault((base_name(x.arm), key), []).append((float(value), _shares(x)))
    return {
        name: sorted(points, key=lambda point: point[0])
        for name, points in found.items()
        if len({value for value, _ in points}) == len(points) > 2
    }


def _corrected_rows(tables: Tables, replies: Replies) -> list[dict[str, Any]]:
    rows = []
    for x in tables.shares:
        config = replies.results[x.job]["config"]
        settings = (replies.results[x.job].get("settings") or {}).get(x.arm) or {}
        rows.append(
            {"job": x.job, "model": config["model"]["name"], "intervention": config["intervention"]["kind"],
             "arm": x.arm, "settings": " ".join(f"{k}={v:g}" for k, v in settings.items()), "metric": x.metric,
             "emotion": x.emotion, "against": None, "n": x.raw.n, "labelled": x.powered.labelled,
             **_spread("raw", x.raw), **_spread("powered", x.powered.estimate), **_spread("confusion", x.confusion),
             "to_halve": x.powered.to_halve}
        )  # fmt: skip
    blank = dict.fromkeys(rows[0]) if rows else {}
    for y in tables.differences:
        own = {"job": y.job, "arm": y.arm, "against": y.against, "metric": y.metric, "n": y.raw.n}
        rows.append(blank | own | _spread("raw", y.raw) | _spread("powered", y.powered))
    return rows


def _confusion(x: Compared) -> str:
    known = per_class(x.pair)
    rates = [
        [row["class"], row["first"], row["second"], row["second_of_first"], row["first_of_second"]] for row in known
    ]
    counts = [
        [row["class"], *(int(n) or "" for n in x.pair.confusion[x.pair.classes.index(row["class"])])] for row in known
    ]
    first, second = x.first, x.second
    head = ["class", f"{first} (texts)", f"{second} (texts)", f"recall of {second}", f"precision of {second}"]
    return (
        f"<h3>{page.text(first)} against {page.text(second)}</h3>{page.table(head, rates)}"
        f"<p>How many of each class of {page.text(first)} (rows) {page.text(second)} calls what (columns):</p>"
        f"{page.table(['class', *map(str, x.pair.classes)], counts)}"
    )


def _read(differ: Sequence[Mapping[str, Any]], labellers: Sequence[Labels]) -> str:
    names = [one.name for one in labellers]
    head = "".join(f"<th>{page.text(name)}</th>" for name in ("reply", "target", *names))
    body = ""
    for row in differ:
        cells = ("" if row[name] is None else row[name] for name in ("target", *names))
        body += f"<tr><td>{page.text(row['text'])}</td>{''.join(f'<td>{page.text(x)}</td>' for x in cells)}</tr>\n"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>' if body else ""
