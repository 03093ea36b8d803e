"""The arms of a job on neurons or heads: the target and its controls, for every k and scale (methods 1.8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from emo.config.choices import DRAWN_UNITS
from emo.config.interventions import kind_of, zeroes
from emo.config.schema import Config
from emo.edit.base import Arm, Context, decoding_of, variant
from emo.edit.units import UnitArm


class Units:
    """Neurons or heads ablated or enhanced, and other units in their place."""

    def arms(self, job: Context) -> list[Arm]:
        """Return the arms; see `unit_arms`."""
        return list(unit_arms(job.config, job.edited_layers, len(job.names)))


def unit_arms(config: Config, layers: Sequence[int], emotions: int) -> list[UnitArm]:
    """Return the target's arms, then those of each control; a list of k or of scales gives one arm each.

    Args:
        config: of the job; ``intervention.kind`` is of neurons or heads.
        layers: blocks that may be edited.
        emotions: how many; ``other_emotion`` averages over the others (for replies over the first few).
    """
    given, control = config.intervention, config.control
    op, units = "ablate" if zeroes(config) else "enhance", kind_of(config).edits
    several = {key: isinstance(getattr(given, key), list) for key in ("k", "scale")}
    arms = []
    for pick in ("top", *control.units):
        for k in _listed(given.k):
            if k == 0 and pick != "top":
                continue  # no unit edited: the same for every control
            for scale in _listed(given.scale) if op == "enhance" else [1.0]:
                told: tuple[tuple[str, float], ...] = (("k", int(k)),) if several["k"] else ()
                told += (("scale", float(scale)),) if several["scale"] and op == "enhance" else ()
                seeds, score_seeds = 1, 1
                if pick in DRAWN_UNITS:
                    seeds, score_seeds = control.seeds, control.score_seeds
                elif pick == "other_emotion":
                    seeds, score_seeds = min(control.seeds, emotions - 1), emotions - 1
                arms.append(
                    UnitArm(
                        name=variant(given.kind if pick == "top" else pick, told),
                        kind=given.kind if pick == "top" else pick,
                        alpha=float(scale),
                        layers=tuple(layers),
                        tokens=given.tokens,
                        decay=float(given.decay),
                        decoding=decoding_of(config.generation.decoding, "steering"),
                        seeds=seeds,
                        score_seeds=score_seeds,
                        op=op,
                        units=units,
                        pick=pick,
                        k=int(k),
                        pool=given.pool,
                        settings=told,
                    )
                )
    return arms


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
