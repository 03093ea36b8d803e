"""A model as titles and runs call it: by its name, and by what else tells it from another of this name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from emo.config.schema import ModelConfig


def model_title(section: ModelConfig | Mapping[str, Any]) -> str:
    """Return ``smollm2_135m``, ``OWNER/NAME at step1000``, or ``my_model with lora`` where an adapter is merged.

    Args:
        section: the section ``model`` of a configuration; as a result has it, one of an earlier version too.
    """
    given = section if isinstance(section, Mapping) else vars(section)
    name = str(given["id"] if given["name"] == "hub" else given["name"])
    at = f" at {given['revision']}" if given.get("revision") else ""
    adapter = given.get("adapter")
    return name + at + (f" with {Path(str(adapter)).name}" if adapter else "")
