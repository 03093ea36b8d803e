"""What must be known of who writes before it begins: a model too small for the rules, a set that another one began."""

from __future__ import annotations

from collections import Counter

from emo.model.size import count_parameters
from emo.pipeline.building.stage import Log
from emo.pipeline.building.writers import ModelWriter, Writer

SMALL = 1_000_000_000  # weights below which a model rarely keeps the rules: of 135M none of 12 scenarios was valid


def doubts(writer: Writer, log: Log, task: str) -> list[str]:
    """Return what is said before anything is written, with what to type instead; empty where there is no doubt."""
    found = []
    if isinstance(writer, ModelWriter) and (size := count_parameters(writer.spec)) < SMALL:
        found.append(
            f"{task}: {writer.spec.name} has {size / 1e6:,.3g} million weights; models below about 1,000 million "
            "rarely keep the rules, so little or nothing may be accepted; type build.base_url=URL build.model=NAME (a "
            "server), or model=NAME (a larger one)"
        )
    earlier = Counter(one.model for own in log.tries.values() for one in own if one.good and one.model != writer.title)
    if earlier:
        told = ", ".join(f"{count} by {name}" for name, count in earlier.items())
        found.append(
            f"{task}: accepted answers of another author are kept ({told}), so the set will hold texts of both "
            "(provenance.jsonl says which); for a set of its own type build.path=FOLDER"
        )
    return found
