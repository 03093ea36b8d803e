"""The accuracy section of a run's page: emotion x valence per arm, with intervals and the paper's values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from emo.data.published import CITATION
from emo.measure.accuracy import AccuracyRow, Estimates, accuracy_table
from emo.report import elements as page

ALL = "all"
PUBLISHED = (
    f"paper: accuracy in {CITATION}, of the same model and method at the paper's strength, on its own scenarios; its "
    "judge was told the target and asked whether the style matches, which is easier to pass than being named."
)


def accuracy_section(
    estimates: Estimates,
    arms: Sequence[str],
    names: Sequence[str],
    valences: Sequence[str],
    model_id: str,
    dataset: str,
    unjudged: Mapping[str, int] | None = None,
    classes: int | None = None,
) -> str:
    """Return the HTML of the section, headed; nothing where no arm has labels.

    Args:
        estimates: arm -> metric key (``accuracy/anger/positive``) -> estimate.
        arms: those shown, in order.
        names: target emotions.
        valences: of events.
        model_id: e.g. ``meta-llama/Llama-3.2-3B-Instruct``.
        dataset: the set that was scored, see `accuracy_table`.
        unjudged: arm -> replies without an answer, which no share counts.
        classes: what a reply can be called, in number; None: the emotions and neutral.
    """
    table = accuracy_table(estimates, arms, names, valences, model_id, dataset)
    if not table:
        return ""
    total = classes or len(names) + 1
    chance = f"a label drawn at random is right in {1 / total:.0%} of replies"
    rest = " or neutral" if total == len(names) + 1 else ", neutral or other"
    said = (
        f"accuracy: the label, one of {len(names)} emotions{rest}, is the target ({chance}). "
        "clean: that, and the reply is not degenerate. Shares of replies, 0 to 1."
    )
    notes = [said, *([PUBLISHED] if any(row.paper is not None for row in table) else [])]
    parts = []
    for arm in dict.fromkeys(row.arm for row in table):
        left_out = (unjudged or {}).get(arm, 0)
        remark = f" Not judged and left out: {left_out} of its replies." if left_out else ""
        parts.append(f"<h3>{page.text(arm)}</h3>\n{_arm([row for row in table if row.arm == arm], remark)}")
    # The charts show it by emotion; a table per arm is for who wants the valences too.
    told = f"<summary>a table for each of {len(parts)} arms</summary>"
    folded = f"<details>{told}\n" + "\n".join(parts) + "</details>"
    return page.section("Accuracy by emotion and valence", page.items(notes) + folded)


def _arm(rows: Sequence[AccuracyRow], remark: str) -> str:
    """Return the table of one arm: emotions down, and per valence accuracy, clean accuracy and the paper's value."""
    valences = list(dict.fromkeys(row.valence for row in rows))
    cells = {(row.emotion, row.valence): row for row in rows}
    head, published = "<th>target</th>", {}
    for valence in valences:
        column = [row for row in rows if row.valence == valence]
        published[valence] = any(row.paper is not None for row in column)
        common, size = _size(column)
        for label in ("accuracy", "clean", *(["paper"] if published[valence] else [])):
            n = f'<br><span class="small">n&nbsp;=&nbsp;{size}</span>' if common and label == "accuracy" else ""
            head += f"<th>{page.text(valence or ALL)}<br>{label}{n}</th>"
    body = ""
    for emotion in dict.fromkeys(row.emotion for row in rows):
        body += f"<tr><th>{page.text(emotion or ALL)}</th>"
        for valence in valences:
            column = [row for row in rows if row.valence == valence]
            # The row of all emotions has another n than the head says.
            body += _cells(cells.get((emotion, valence)), emotion is not None and _size(column)[0], published[valence])
        body += "</tr>\n"
    return page.numbers(head, body, remark, "numbers dense")


def _size(rows: Sequence[AccuracyRow]) -> tuple[bool, int]:
    """Return whether all cells of a column have one n, and it; the row of all emotions apart."""
    found = [e for row in rows if row.emotion is not None for e in (row.accuracy, row.clean_accuracy)]
    sizes = {e.n for e in found if e is not None and e.n}
    return len(sizes) == 1, max(sizes, default=0)


def _cells(row: AccuracyRow | None, common: bool, published: bool) -> str:
    if row is None:  # no such part: the mean over emotions is given for all valences together only
        return "<td></td>" * (2 + published)
    shown = [page.cell(row.accuracy, common), page.cell(row.clean_accuracy, common)]
    if published:
        shown.append("" if row.paper is None else f"{row.paper:.2f}")
    return "".join(f"<td>{cell}</td>" for cell in shown)
