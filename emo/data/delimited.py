"""Text in rows and columns: which delimiter, which header, and quotes that are read strictly."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emo.config.choices import DELIMITER_NAMES
from emo.core.errors import UserError

DELIMITERS = (",", ";", "\t", "|")  # tried where none is given
SNIFFED = 50  # rows without a header that are looked at
LIMIT = 1 << 27  # characters of one cell


class Layout(NamedTuple):
    """How delimited text is laid out; `columns` are those that are needed, `label` the one of classes."""

    delimiter: str | None = None  # a character or a name of `DELIMITER_NAMES`; None: sniffed
    header: bool = True  # False: columns are called 0, 1, 2 ...
    columns: tuple[str, ...] = ()
    label: str | None = None


class _Line(NamedTuple):
    first: int  # physical line on which a row begins, 1 the first
    last: int
    cells: list[str]


def read_table(path: Path, text: str, layout: Layout) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """Return (line, cells by column) of every row, and what is to be said.

    A quoted text may hold line breaks and delimiters: a dialogue does. It is refused where most of its lines are whole
    rows, with the value of the label column that other rows have: there a quote that belongs to a text has swallowed
    rows. It is said where they are as many cells but no such value.

    Raises:
        UserError: it names the line.
    """
    delimiter = DELIMITER_NAMES.get(layout.delimiter or "", layout.delimiter) or _sniff(path, text, layout)
    start = text.lstrip("\r\n")[:1]
    quoted = delimiter != "\t" or (layout.header and start == '"' and _all_quoted(text.lstrip("\r\n"), delimiter))
    lines = list(_lines(path, text, delimiter, quoted))
    if not lines:
        return [], []
    if layout.header:
        names = [name.strip() for name in lines[0].cells]
        unique(names, f"{path}, line {lines[0].first}")
        lines = lines[1:]
    else:
        names = [str(k) for k in range(len(lines[0].cells))]
    for line in lines:
        _check_width(path, line, names, layout.header, quoted)
    told = _swallowed(path, lines, names, delimiter, layout.label) if quoted else []
    padded = ([*line.cells, *[""] * (len(names) - len(line.cells))] for line in lines)
    return [(line.first, dict(zip(names, cells, strict=True))) for line, cells in zip(lines, padded, strict=True)], told


def _lines(path: Path, text: str, delimiter: str, quoted: bool) -> Iterator[_Line]:
    csv.field_size_limit(LIMIT)
    rows = (
        csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
        if quoted
        else csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=csv.QUOTE_NONE)
    )
    first = 1
    try:
        for cells in rows:
            if cells:
                yield _Line(first, rows.line_num, cells)
            first = rows.line_num + 1
    except csv.Error as error:
        if not quoted:
            raise UserError(f"{path}, line {first}: {error}") from None
        where = f"line {rows.line_num}" if rows.line_num > first else "that line"
        raise UserError(
            f"{path}, line {first}: a cell begins with a quote that is not closed before the delimiter ({error}, "
            f'{where}); put the whole cell in quotes and write "" for a quote inside, or delete the quote'
        ) from None


def _check_width(path: Path, line: _Line, names: Sequence[str], header: bool, quoted: bool) -> None:
    width, of = len(line.cells), "the header" if header else "the first row"
    if width > len(names):
        raise UserError(
            f"{path}, line {line.first}: {width} cells, {of} has {len(names)}; "
            + ("put quotes around texts that hold the delimiter" if quoted else "no text may hold a tab")
        )
    if not quoted and width < len(names) and line.cells[-1].startswith('"'):
        raise UserError(
            f"{path}, line {line.first}: {width} cells, {of} has {len(names)}; text divided by tabs is read without "
            "quotes, so no text may hold a line break: write them as \\n, or save the table as .csv"
        )


def _swallowed(
    path: Path, lines: Sequence[_Line], names: Sequence[str], delimiter: str, label: str | None
) -> list[str]:
    """Refuse cells that hold rows, and return a line about those that may."""
    column = names.index(label) if label in names else None
    known = {line.cells[column].strip() for line in lines if column is not None and len(line.cells) > column} - {""}
    doubtful: list[_Line] = []
    for line in lines:
        for k, cell in enumerate(line.cells):
            if "\n" not in cell and "\r" not in cell:
                continue
            inside = list(_as_rows(line.cells, k, delimiter))
            whole = [len(row) == len(names) for row, _ in inside]
            # Only a value that stands in the cell itself tells: that beside it belongs to the row anyway.
            told = [
                same and row[column].strip() in known
                for same, (row, own) in zip(whole, inside, strict=True)
                if column is not None and column in own
            ]
            if 2 * sum(told) > len(told):
                raise UserError(
                    f"{path}, line {line.first}: a text in quotes goes on to line {line.last} and holds rows with "
                    'labels of their own; close its quote, or delete it (inside a text in quotes a quote is written "")'
                )
            if len(names) > 1 and all(whole[:-1]) and line not in doubtful:
                doubtful.append(line)
    if not doubtful:
        return []
    first = doubtful[0]
    return [
        f"{path}: {len(doubtful)} texts in quotes hold line breaks and as many delimiters a line as a row has, the "
        f"first in lines {first.first}-{first.last}: look whether its quotes are closed where they should be"
    ]


def _as_rows(cells: Sequence[str], k: int, delimiter: str) -> Iterator[tuple[list[str], range]]:
    """Yield what each line of cell ``k`` would be as a row without quotes, and which columns stand in the cell."""
    lines = cells[k].splitlines()
    for i, line in enumerate(lines):
        before, after = list(cells[:k]) if i == 0 else [], list(cells[k + 1 :]) if i == len(lines) - 1 else []
        own = line.split(delimiter)
        yield [*before, *own, *after], range(len(before), len(before) + len(own))


def _sniff(path: Path, text: str, layout: Layout) -> str:
    """Return the delimiter that finds the columns that are needed; else the file's own, else that of most cells."""
    own = "\t" if ".tsv" in path.name.lower() else ","
    top = [line for line in text[: 1 << 20].splitlines() if line.strip()][: 1 if layout.header else SNIFFED]

    def fit(delimiter: str) -> tuple[float, ...]:
        rows = [next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), []) for line in top]
        if layout.header:
            names = {cell.strip() for row in rows for cell in row}
            return len(names & set(layout.columns)), delimiter == own and len(names) > 1, len(names)
        width, same = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
        needed = max((int(column) for column in layout.columns if column.isdigit()), default=0)
        return width > needed, same / max(1, len(rows)), delimiter == own, width

    return max(DELIMITERS, key=fit)


def _all_quoted(text: str, delimiter: str) -> bool:
    cells = (text.splitlines() or [""])[0].split(delimiter)
    return all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)


def unique(names: Sequence[str], where: str) -> None:
    """Raise `UserError` where two columns have one name."""
    for name in names:
        if name and names.count(name) > 1:
            raise UserError(f"{where}: two columns are called '{name}'; rename or delete one of them")
