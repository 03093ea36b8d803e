"""The section model, before anything of it is read: a folder is there, and stands for the same from everywhere."""

from __future__ import annotations

import re
from pathlib import Path

from emo.config.schema import ModelConfig
from emo.config.store_paths import absolute
from emo.core import home
from emo.core.errors import UserError, nearest

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")  # OWNER/NAME


def folder_name(path: object) -> str:
    """Return the name of a folder as tables show it; of none ``local``."""
    return Path(str(path)).expanduser().absolute().name or "local" if path else "local"


def check_model(given: ModelConfig) -> None:
    """Check the folders of the section model, and make them absolute.

    Raises:
        UserError: ``path`` is missing or no folder, ``adapter`` is neither a folder nor OWNER/NAME.
    """
    if given.source == "local":
        if not given.path:
            raise UserError("model=local needs model.path=FOLDER, with config.json, safetensors and a tokenizer in it")
        given.path = _folder("model.path", given.path)
    if given.adapter is not None:
        if HUB_ID.fullmatch(given.adapter) and not Path(given.adapter).exists():
            return
        given.adapter = _folder("model.adapter", given.adapter, ", and no OWNER/NAME of the hub")


def check_against(given: str | None) -> str | None:
    """Return the second model as it is named from everywhere: a folder absolute.

    Raises:
        UserError: it is neither a folder, nor OWNER/NAME, nor an option of ``model=``.
    """
    if given == "":
        raise UserError("against: which model? type against=FOLDER (of a model or an adapter), OWNER/NAME or an option")
    if given is None or given in (options := [path.stem for path in (home.CONF / "model").glob("*.yaml")]):
        return given
    if HUB_ID.fullmatch(given) and not Path(given).exists():
        return given
    return _folder("against", given, f", no OWNER/NAME of the hub, no option of model={nearest(given, options)}")


def _folder(key: str, given: str, neither: str = "") -> str:
    path = Path(given).expanduser()
    if given and path.is_file():
        raise UserError(f"{key}={given}: a file; type the folder that it lies in, {key}={path.parent}")
    if not given or not path.is_dir():
        raise UserError(f"{key}={given}: no such folder (looked from {Path.cwd()}){neither}")
    return absolute(given)
