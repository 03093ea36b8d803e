"""Where the files of ``conf/`` and ``sweeps/`` lie, and where results go by default.

In a clone they lie beside the package, and results go to its ``outputs/``, from whatever directory one starts. An
installed package has them inside, and results go to ``outputs/`` of the current directory.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
IN_CLONE = (_PACKAGE.parent / "run.py").is_file() and (_PACKAGE.parent / "conf" / "config.yaml").is_file()
CONF = _PACKAGE.parent / "conf" if IN_CLONE else _PACKAGE / "conf"
PRESETS = _PACKAGE.parent / "sweeps" if IN_CLONE else _PACKAGE / "presets"
PROGRAM = ["python", "run.py"] if IN_CLONE else ["emo"]  # as it is typed


def folder() -> Path:
    """Return the folder that holds ``outputs/``."""
    return _PACKAGE.parent if IN_CLONE else Path.cwd()
