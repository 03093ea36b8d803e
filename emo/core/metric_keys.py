"""The key of a metric in result.json: ``metric``, ``metric/emotion`` or ``metric/emotion/valence``.

A label of a user's file may hold the slash itself (``joy/happy``): it is written ``%2F`` in a key, and ``%`` is
``%25``. Keys are made and read here alone.
"""

from __future__ import annotations

from typing import NamedTuple


class MetricParts(NamedTuple):
    """What a key says; None: of all emotions, of all valences."""

    metric: str
    emotion: str | None = None
    valence: str | None = None


def metric_key(metric: str, *part: str) -> str:
    """Return the key of a metric of a part of the data: of an emotion (or class), and of one of its valences."""
    return "/".join([metric, *(name.replace("%", "%25").replace("/", "%2F") for name in part)])


def metric_parts(key: str) -> MetricParts:
    """Return the parts of a key, as they were given to `metric_key`."""
    metric, *part = key.split("/", 2)
    return MetricParts(metric, *(name.replace("%2F", "/").replace("%25", "%") for name in part))
