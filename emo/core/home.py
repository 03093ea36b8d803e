"""Where the files of ``conf/`` and ``sweeps/`` lie, where results go by default, and what a user keeps between runs.

In a clone they lie beside the package, and results go to its ``outputs/``, from whatever directory one starts. An
installed package has them inside, and results go to ``outputs/`` of the current directory.
"""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
IN_CLONE = (_PACKAGE.parent / "run.py").is_file() and (_PACKAGE.parent / "conf" / "config.yaml").is_file()
CONF = _PACKAGE.parent / "conf" if IN_CLONE else _PACKAGE / "conf"
PRESETS = _PACKAGE.parent / "sweeps" if IN_CLONE else _PACKAGE / "presets"
PROGRAM = ["python", "run.py"] if IN_CLONE else ["emo"]  # as it is typed


def folder() -> Path:
    """Return the folder that holds ``outputs/``."""
    return _PACKAGE.parent if IN_CLONE else Path.cwd()


def cache_home() -> Path:
    """Return the folder for what is made once per user and machine: ``$XDG_CACHE_HOME/emo`` or ``~/.cache/emo``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emo"
