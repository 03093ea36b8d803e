"""Revisions of one training as numbers: ``step1000`` is 1,000 steps, so that results can be drawn along the training.

Only where every revision of a sweep says its step in the same way; branches with names of another kind stay names, in
the order in which they were typed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from emo.core.frames import pd

REVISION = "model.revision"
NAMED = re.compile(r"(?:step|checkpoint)[-_]?(\d+)", re.IGNORECASE)  # also of names with other numbers beside it
NUMBER = re.compile(r"\d+")


def steps_of(revisions: Sequence[object]) -> dict[str, int] | None:
    """Return the training step of every revision, none twice; None: they are not of one series.

    ``step1000``, ``stage1-step1000-tokens3B`` and ``ckpt-1000`` are; ``main`` and hashes of commits are not.
    """
    names = list(dict.fromkeys(map(str, revisions)))
    named = [NAMED.findall(name) for name in names]
    if all(len(found) == 1 for found in named):
        steps = [int(found[0]) for found in named]
    elif all(len(NUMBER.findall(name)) == 1 for name in names) and len({NUMBER.sub("#", n) for n in names}) == 1:
        steps = [int(NUMBER.findall(name)[0]) for name in names]
    else:
        return None
    return dict(zip(names, steps, strict=True)) if len(set(steps)) == len(steps) > 1 else None


def with_steps(frame: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Return a table of results with the steps in place of the revisions, where these are of one series."""
    if REVISION not in axes or frame.empty or (steps := steps_of(frame[REVISION])) is None:
        return frame
    made = frame.assign(**{REVISION: frame[REVISION].map(lambda name: steps[str(name)])})
    made.attrs.update(frame.attrs)
    return made
