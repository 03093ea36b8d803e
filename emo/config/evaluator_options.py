"""An evaluator by the name that ``evaluator=`` knows it by, where several are needed at once."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from emo.config.error_text import CONFIG_DIR
from emo.config.own_evaluator import check_evaluator
from emo.config.schema import Config, EvaluatorConfig
from emo.core import home
from emo.core.errors import UserError, nearest

KEY = "agreement.labellers"


def with_evaluator(config: Config, name: str) -> Config:
    """Return a configuration with another evaluator, as its file in ``conf/evaluator`` (or ``--config-dir``) says.

    Raises:
        UserError: there is no such option.
    """
    own = os.environ.get(CONFIG_DIR)
    folders = [home.CONF / "evaluator", *([Path(own) / "evaluator"] if own else [])]
    options = {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}
    if name not in options:
        raise UserError(f"{KEY}={name}: not one of {', '.join(options)}{nearest(name, options)}")
    read: Any = OmegaConf.to_container(OmegaConf.load(options[name]))
    read.pop("defaults", None)  # conf/_evaluator.yaml, which says what the schema says
    made = replace(config, evaluator=EvaluatorConfig(**read))
    check_evaluator(made)
    return made
