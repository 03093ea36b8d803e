"""Classes and functions of a user's own, named by ``_target_`` in a configuration: ``MODULE.NAME``.

A module is found as Python finds it: installed, or below the current directory. The digest of its file is part of the
addresses of what it makes, so that results of a changed module are computed again.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from emo.core.errors import UserError, nearest


def load_target(target: str, key: str, needs: Sequence[str] = ()) -> Any:
    """Return what a ``_target_`` names.

    Args:
        target: ``MODULE.NAME``, e.g. ``my_methods.AblateDirection``.
        key: of the configuration, for the line that refuses it.
        needs: attributes that it must have.

    Raises:
        UserError: there is no such module or name in it, or it lacks an attribute.
    """
    module_name, _, name = target.rpartition(".")
    if not module_name:
        raise UserError(f"{key}={target}: type MODULE.NAME, e.g. {key}=my_methods.{target or 'Mine'}")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):  # what the module itself imports
            raise UserError(f"{key}={target}: {module_name} cannot be imported: {error}") from error
        raise UserError(
            f"{key}={target}: there is no module {error.name} (looked in {Path.cwd()} and among installed packages); "
            "check its name, or type PYTHONPATH=FOLDER in front"
        ) from None
    except SyntaxError as error:
        raise UserError(f"{key}={target}: {error.filename}, line {error.lineno}: {error.msg}") from None
    except Exception as error:
        raise UserError(f"{key}={target}: {module_name} cannot be imported: {type(error).__name__}: {error}") from error
    named = getattr(module, name, None)
    if named is None:
        own = [word for word, x in vars(module).items() if getattr(x, "__module__", None) == module_name]
        raise UserError(f"{key}={target}: {module_name} has no {name}, only {', '.join(own)}{nearest(name, own)}")
    missing = [word for word in needs if not hasattr(named, word)]
    if missing:
        raise UserError(f"{key}={target}: it has no {' and no '.join(missing)}; docs/extend.md shows one that works")
    return named


@lru_cache(maxsize=64)
def target_digest(target: str) -> str:
    """Return the sha256 (hex) of the file that a ``_target_`` is defined in."""
    file = inspect.getsourcefile(importlib.import_module(target.rpartition(".")[0]))
    return hashlib.sha256(Path(str(file)).read_bytes()).hexdigest()
