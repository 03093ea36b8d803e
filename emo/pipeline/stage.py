"""The stages of jobs: what each is called, which version of its computation this is, and whether it needs the model.

A version is raised where the numbers of a stage change: what is stored of it is then found no more, and the stage is
computed anew. What else the address of a stage holds stands where it is made: `emo.pipeline.addresses` and
`emo.pipeline.arm_addresses` for scenarios, `emo.pipeline.labelled` and `emo.pipeline.finding` for labelled texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Stage(NamedTuple):
    """One stage.

    Attributes:
        name: the folder of its artifacts in a store.
        version: of its computation.
        model: whether the language model computes it; else it reads what others left.
        counted: whether a result's address holds its version; of what only describes directions it does not.
    """

    name: str
    version: int
    model: bool = True
    counted: bool = True


SCENARIOS = {  # replies to scenarios, in the order in which one needs another
    stage.name: stage
    for stage in (
        Stage("directions", 3),
        Stage("shuffled", 1),
        Stage("probe_states", 1),
        Stage("lens", 1, counted=False),
        Stage("attribution", 2),
        Stage("ranking", 1),
        Stage("importance", 1),
        Stage("circuit", 1),
        Stage("selection", 3),
        Stage("states", 2),
        Stage("projections", 1),
        Stage("modulated", 1),
        Stage("doses", 2),
        Stage("replies", 2),
        Stage("labels", 2, model=False),
        Stage("margins", 2),
        Stage("damage", 3),
        Stage("result", 3),
    )
}
CLASSES = {  # classes of labelled texts
    stage.name: stage
    for stage in (
        Stage("statistics", 4),
        Stage("direct", 3),
        Stage("predictions", 3),
        Stage("prior", 2),
        Stage("written", 3),
        Stage("result", 3),
    )
}
EXPORTED = {"rms": Stage("rms", 1)}  # of no result: what files for other programs need beside these
OF_CLASS_RESULTS = ("predictions", "prior", "written", "result")  # selections are in their addresses as they are


def versions(stages: Iterable[Stage]) -> dict[str, int]:
    """Return the version of each stage by its name: part of the address of a result."""
    return {stage.name: stage.version for stage in stages if stage.counted}
