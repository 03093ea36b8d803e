"""How fast a model's stages ran, from the manifests of a store: rows a second, tokens a reply, bytes a row."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from emo.core.sealed import DamagedError, changed, read_sealed

NEWEST = 200  # artifacts of each stage that are looked at
UNKNOWN = "not measured yet"


class Row(Protocol):
    """What is to be computed."""

    @property
    def stage(self) -> str: ...  # noqa: D102
    @property
    def rows(self) -> int: ...  # noqa: D102
    @property
    def tokens(self) -> int: ...  # noqa: D102


class Rate(NamedTuple):
    """Sums over the artifacts of one stage; ``tokens``: that were generated."""

    rows: int
    seconds: float
    tokens: int
    bytes: int

    def plus(self, other: Rate) -> Rate:
        """Return the sums over both."""
        return Rate(
            self.rows + other.rows, self.seconds + other.seconds, self.tokens + other.tokens, self.bytes + other.bytes
        )


class Rates(NamedTuple):
    """What was measured of one model on one machine, by stage."""

    machine: str | None  # None: on none
    here: bool  # this machine's kind
    stages: dict[str, Rate]

    def seconds(self, work: Iterable[Row]) -> tuple[float, float] | None:
        """Return the least and the most seconds that rows take; None where a stage was never measured.

        Least: replies end as early as the measured ones did; most: at their limit.
        """
        low = high = 0.0
        for one in work:
            rate = self.stages.get("replies" if one.stage == "selection" else one.stage)
            if rate is None or not rate.rows:
                return None
            if one.stage == "selection" and (damage := self.stages.get("damage")) and damage.rows:
                low += one.rows * damage.seconds / damage.rows  # of replies on dev too
                high += one.rows * damage.seconds / damage.rows
            if rate.tokens:
                each = rate.seconds / rate.tokens
                most = one.tokens * each
                low += one.rows * min(rate.tokens / rate.rows * each, most)
                high += one.rows * most
            else:
                low += one.rows * rate.seconds / rate.rows
                high += one.rows * rate.seconds / rate.rows
        return low, high

    def bytes(self, work: Iterable[Row]) -> int | None:
        """Return the bytes in the store that rows take; None where a stage was never measured."""
        total = 0.0
        for one in work:
            if one.stage == "selection":  # what was chosen is kept, not the replies that were tried
                continue
            rate = self.stages.get(one.stage)
            if rate is None or not rate.rows:
                return None
            total += one.rows * rate.bytes / rate.rows
        return math.ceil(total)

    def told(self) -> str:
        """Return the measured rates in words."""
        if self.machine is None:
            return f"its rates are {UNKNOWN} in this store; a small job (dataset.limit=2) measures them"
        rates = (f"{name} {rate.rows / rate.seconds:.3g}/s" for name, rate in self.stages.items() if rate.seconds)
        where = "this kind of machine" if self.here else "another kind of machine than this one"
        return f"measured on {self.machine} ({where}): {', '.join(rates)}"


def read_rates(store: Path, by: dict[str, Any]) -> Rates:
    """Return the rates of a model.

    Args:
        store: its root.
        by: model and machine as manifests hold them; where this machine's kind measured nothing, the one that measured
            most is taken, and named.
    """
    of_machine: dict[str, dict[str, Rate]] = {}
    mine = {key: x for key, x in by.items() if key != "machine"}
    for path in _manifests(store):
        try:
            manifest = read_sealed(path)
            made = dict(manifest["made"])
            owner = made["by"]
            if {key: x for key, x in owner.items() if key != "machine"} != mine:
                continue
            tokens = _tokens(path.parent, manifest) if manifest["stage"] in ("replies", "written") else 0
            held = sum((path.parent / name).stat().st_size for name in manifest["files"]) + path.stat().st_size
            one = Rate(made["rows"], manifest["wall_s"] / made["together"], tokens, held)
        except (DamagedError, KeyError, TypeError, OSError, ValueError):
            continue  # of an earlier version, or just being written
        stages = of_machine.setdefault(owner["machine"], {})
        before = stages.get(manifest["stage"], Rate(0, 0.0, 0, 0))
        stages[manifest["stage"]] = before.plus(one)
    if not of_machine:
        return Rates(None, False, {})
    here = by.get("machine")
    machine = here if here in of_machine else max(of_machine, key=lambda m: sum(r.rows for r in of_machine[m].values()))
    return Rates(str(machine), machine == here, of_machine[str(machine)])


def _manifests(store: Path) -> list[Path]:
    found: list[Path] = []
    for stage in ("replies", "written", "projections", "predictions", "margins", "damage", "labels"):
        paths = sorted((store / stage).glob("*/manifest.json"), key=lambda path: path.stat().st_mtime)
        found += paths[-NEWEST:]
    return found


def _tokens(folder: Path, manifest: dict[str, Any]) -> int:
    """Return how many tokens the replies of an artifact have; 0 where their ids were not kept."""
    if "rows.jsonl" not in manifest["files"] or changed(folder, manifest["files"]):
        raise DamagedError("its rows are not what was written")
    lines = (folder / "rows.jsonl").read_text(encoding="utf-8").split("\n")
    return sum(len(json.loads(line).get("ids", ())) for line in lines if line)


def duration(span: tuple[float, float] | None) -> str:
    """Return a span of seconds in words."""
    if span is None:
        return UNKNOWN
    low, high = map(_time, span)
    return low if low == high else f"{low} to {high}"


def _time(seconds: float) -> str:
    if seconds < 1:
        return "0 s" if seconds == 0 else "under 1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def size(count: float | None) -> str:
    """Return bytes in words."""
    if count is None:
        return UNKNOWN
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.3g} {unit}"
