"""Names in any script in a figure: an installed font that has their letters, or one remark that there is none.

The fonts of a figure are searched only where its own font lacks a glyph, so other figures keep their bytes.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.text import Text

from emo.core.console import warn

OWN = "DejaVu Sans"
# Placeholders for every character, and fonts of formulas whose letters lie elsewhere.
UNFIT = re.compile(r"Last ?Resort|STIX|cm[a-z]+\d+")
GLYPH = re.compile(r"Glyph (\d+) ")
UNSHAPED = "does not support"  # of a script whose letters join: they are drawn one by one
_said: set[str] = set()


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, in fonts that have the glyphs of its texts as far as such fonts are installed."""
    missing = _write(figure, path)
    families = _covering(missing)
    if families:
        for text in figure.findobj(Text):
            text.set_fontfamily([OWN, *families])
        missing = _write(figure, path)
    if missing - _said:
        shown = "".join(sorted(missing - _said))
        _said.update(missing)
        warn(
            f"figures show boxes in place of {shown}: no installed font has them; install one (e.g. Noto Sans CJK), "
            f"then delete {Path(mpl.get_cachedir()) / 'fontlist*.json'}"
        )


def _write(figure: Figure, path: Path) -> frozenset[str]:
    """Write the PNG and return the characters that no font of the figure has."""
    missing = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Without the software stamp the same numbers give the same bytes.
        figure.savefig(path, format="png", metadata={"Software": None})
    for one in caught:
        if found := GLYPH.match(str(one.message)):
            if (character := chr(int(found[1]))).isprintable():  # no font has the others
                missing.add(character)
        elif UNSHAPED not in str(one.message):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    return frozenset(missing)


@cache
def _covering(characters: frozenset[str]) -> tuple[str, ...]:
    """Return families that have these characters, each with one that those before it lack; as few as may be."""
    left = {ord(c) for c in characters}
    found = []
    having = {name: left & codes for name, codes in _installed()} if left else {}
    while left and having:
        name = max(having, key=lambda n: (len(having[n] & left), n))
        if not having[name] & left:
            break
        found.append(name)
        left -= having[name]
    return tuple(found)


def _installed() -> Iterator[tuple[str, frozenset[int]]]:
    """Yield (family, its characters) of the installed fonts, one file each."""
    files = {font.name: font.fname for font in fontManager.ttflist if not UNFIT.match(font.name)}
    for name, file in sorted(files.items()):
        try:
            yield name, frozenset(get_font(file).get_charmap())
        except (OSError, RuntimeError):  # a file that is no font any more
            continue
