"""Which modules `make test-quick` leaves out."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

LONG = re.compile(
    r"\b(run_job|subprocess|long_table|class_jobs import.*done|support\.(command|presets|runs|sweep_\w+))\b"
    r"|^pytestmark = .*pytest\.mark\.long|^    pytest\.mark\.long",
    re.MULTILINE,
)


@cache
def is_long(module: Path) -> bool:
    """Tell whether a module runs jobs, starts processes, or says of itself that its tests take seconds."""
    return LONG.search(module.read_text(encoding="utf-8")) is not None
