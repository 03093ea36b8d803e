"""A model by the name that the command line knows it by, for scripts."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf

from emo.config.schema import ModelConfig
from emo.core import home
from emo.core.errors import UserError, nearest
from emo.model.lm import LM
from emo.model.load import describe, load

OPTIONS = home.CONF / "model"


def load_named(name: str, device: str = "auto", dtype: str = "auto") -> LM:
    """Return the model of an option of ``conf/model``, or of a hub repository OWNER/NAME.

    Args:
        name: e.g. ``smollm2_135m`` or ``Qwen/Qwen2.5-0.5B-Instruct``.
        device: auto | cpu | cuda | cuda:0 ... | mps.
        dtype: auto (the checkpoint's own) | float32 | bfloat16 | float16.

    Raises:
        UserError: no such option, or the model cannot be had.
    """
    return load(describe(model_config(name), device, dtype))


def model_config(name: str) -> ModelConfig:
    """Return the ``model`` section that ``model=NAME`` composes, or that of a hub repository OWNER/NAME.

    Raises:
        UserError: no such option.
    """
    if "/" in name:
        return ModelConfig(name="hub", id=name)
    options = sorted(path.stem for path in OPTIONS.glob("*.yaml") if path.stem != "hub")
    if name not in options:
        raise UserError(f"model {name}: neither OWNER/NAME nor one of {', '.join(options)}{nearest(name, options)}")
    read: Any = OmegaConf.to_container(OmegaConf.load(OPTIONS / f"{name}.yaml"))
    own = read.get("model") or {key: value for key, value in read.items() if key != "defaults"}
    return ModelConfig(**own)  # what a file leaves out is the schema's default, as in conf/_model.yaml
