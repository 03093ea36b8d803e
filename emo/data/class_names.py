"""Which class a value of the label column is: by the list of ``dataset.labels``, or by its own name.

Values differ from a class in case and white space in half of the files that people have: they are matched where one
class fits, and it is said. What is no value at all (null, NaN, empty) is no class.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from emo.config.schema import DatasetConfig
from emo.core.errors import UserError

LITERAL = "literal"  # the class of counterparts without a device
NO_LABEL = "(no label)"  # stands for the value of a text whose cell is empty, null or not a number
SEVERAL = "(several labels)"  # for that of one with more than one label, where those are skipped
MISSING = ("", "nan", "null", "<na>", "n/a", "#n/a")  # how tables write that there is no value
BETWEEN = re.compile(r"[,;|]")  # labels in one cell


def names_of(config: DatasetConfig) -> dict[str, str]:
    """Return the class of every listed value, in the order of the list; empty: the values are the classes.

    Raises:
        UserError: an entry of ``dataset.labels`` is not VALUE:CLASS.
    """
    if config.label is None:
        if len(config.labels) != 1 or ":" in config.labels[0]:
            raise UserError("dataset.label=null: dataset.labels must be the one class of all texts, e.g. [hyperbole]")
        return {config.labels[0]: config.labels[0]} | ({LITERAL: LITERAL} if config.literal else {})
    names: dict[str, str] = {}
    for entry in config.labels:
        value, colon, name = (part.strip() for part in entry.rpartition(":"))
        if not (value and colon and name) or value in names:
            raise UserError(f"dataset.labels: '{entry}' is not VALUE:CLASS with a value of its own, e.g. 4:happiness")
        names[value] = name
    return names | ({LITERAL: LITERAL} if names and config.literal else {})


def value_of(cell: Any) -> str:
    """Return a cell of the label column as it is written in ``dataset.labels``; of no value an empty text."""
    if cell is None or cell != cell:  # NaN is not itself
        return ""
    if isinstance(cell, float) and cell.is_integer():  # a column with holes: pandas makes 3.0 of 3
        return str(int(cell))
    return str(cell).strip()


class Naming:
    """The classes of a file's values.

    Args:
        names: class of every listed value; empty: values are classes.
        classes: those that are asked for; None: all there are.
        values: of all texts, as often as they stand in the file.
        several: what a cell with several labels is: skip | first | agree (the class that all of them have, else
            skipped); None: refused by `check`.
    """

    def __init__(
        self, names: dict[str, str], classes: Sequence[str] | None, values: Iterable[str], several: str | None
    ) -> None:
        self._names, self._classes, self._how = names, classes, several
        self.matched: dict[str, str] = {}  # value -> class that it differs from in case or white space
        count = Counter(values)
        self._known = dict.fromkeys(names or classes or ())
        self._plain = {_plain(value) for value in self._known}
        own = [value for value in count if not BETWEEN.search(value) and not _missing(value)]
        self._singly = self._plain | {_plain(value) for value in own}
        self._spellings: dict[str, str] = {}  # the most frequent one of every value
        for value in sorted(own, key=lambda one: -count[one]):
            self._spellings.setdefault(_plain(value), value)
        self.several = {value: n for value, n in count.items() if len(self._parts(value)) > 1}

    @property
    def first(self) -> int:
        """How many texts have several labels, of which the first was taken."""
        return sum(self.several.values()) if self._how == "first" else 0

    def check(self, where: str) -> None:
        """Raise `UserError` where cells have several labels, and nothing says what they are."""
        if self.several and self._how is None:
            value, n = next(iter(self.several)), sum(self.several.values())
            raise UserError(
                f"{where}: {n} texts have several labels in a cell, e.g. '{value}'; type dataset.multilabel=skip to "
                "leave them out, first to take the first, or agree to keep those whose labels are all of one class"
            )

    def __call__(self, value: str) -> tuple[str | None, str]:
        """Return the class of a value, None where it has none, and what it counts as where it is left out."""
        if value in self.several:
            named = {self(part)[0] for part in self._parts(value)} if self._how == "agree" else set()
            if self._how != "first":
                return named.pop() if len(named) == 1 else None, SEVERAL
            value = self._parts(value)[0]
        if value not in self._known and _missing(value):
            return None, NO_LABEL
        listed = (
            self._fitting(value, self._known, "dataset.labels")
            if self._known
            else self._spellings.get(_plain(value), value)
        )
        if listed is None:
            return None, value
        own = name = self._names.get(listed, listed)
        if self._classes is not None:
            fitting = self._fitting(own, self._classes, "emotions.names")
            if fitting is None:
                return None, value
            name = fitting
        if value != listed or own != name:
            self.matched[value] = name
        return name, value

    def _parts(self, value: str) -> list[str]:
        parts = [part.strip() for part in BETWEEN.split(value)]
        if value in self._known or _plain(value) in self._plain or not all(parts):
            return [value]
        return parts if any(_plain(part) in self._singly for part in parts) else [value]

    def _fitting(self, value: str, known: Iterable[str], key: str) -> str | None:
        if value in (options := list(known)):
            return value
        fits = [one for one in options if _plain(one) == _plain(value)]
        if len(fits) > 1:
            raise UserError(
                f"{key}: the value '{value}' may be {' or '.join(fits)}; list it as one of them, VALUE:CLASS"
            )
        return fits[0] if fits else None


def _plain(value: str) -> str:
    return " ".join(value.casefold().split())


def _missing(value: str) -> bool:
    return _plain(value) in MISSING
