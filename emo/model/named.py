"""A model by the name that the command line knows it by, for scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from emo.config.model_source import HUB_ID, check_model, folder_name
from emo.config.schema import ModelConfig
from emo.core import home
from emo.core.errors import UserError, nearest
from emo.model.lm import LM
from emo.model.load import describe, load

OPTIONS = home.CONF / "model"
GIVEN = ("hub", "local")  # options that need more than their name


def load_named(
    name: str,
    device: str = "auto",
    dtype: str = "auto",
    *,
    revision: str | None = None,
    adapter: str | Path | None = None,
) -> LM:
    """Return a model as a job on it has it: loaded, and its sites verified.

    Args:
        name: an option of ``conf/model`` (``smollm2_135m``), a folder with a model, or a hub repository OWNER/NAME.
            ``./smollm2_135m`` is the folder where an option has its name.
        device: auto | cpu | cuda | cuda:0 ... | mps.
        dtype: auto (the checkpoint's own) | float32 | bfloat16 | float16.
        revision: of a hub repository: a branch, tag or commit; None: its default branch.
        adapter: LoRA adapter that is merged into the weights (a folder, or OWNER/NAME; needs peft); None: none.

    Raises:
        UserError: no such option, folder or repository, or the model or its adapter cannot be had.
    """
    config = model_config(name)
    if revision is not None:
        if config.source != "hub":
            raise UserError(f"revision={revision}: not read by {name}, only by repositories of the hub; leave it out")
        config.revision = revision
    config.adapter = None if adapter is None else str(adapter)
    check_model(config)
    return load(describe(config, device, dtype))


def model_config(name: str) -> ModelConfig:
    """Return the ``model`` section that ``model=NAME`` composes, or that of a folder or a hub repository OWNER/NAME.

    Raises:
        UserError: no such option.
    """
    options = sorted(path.stem for path in OPTIONS.glob("*.yaml") if path.stem not in GIVEN)
    if name in options:
        read: Any = OmegaConf.to_container(OmegaConf.load(OPTIONS / f"{name}.yaml"))
        own = read.get("model") or {key: value for key, value in read.items() if key != "defaults"}
        return ModelConfig(**own)  # what a file leaves out is the schema's default, as in conf/_model.yaml
    if Path(name).expanduser().is_dir():
        return ModelConfig(name=folder_name(name), source="local", id="local", path=name)
    if HUB_ID.fullmatch(name):
        return ModelConfig(name="hub", id=name)
    known = f"none of {', '.join(options)}{nearest(name, options)}"
    raise UserError(f"model {name}: no folder (looked from {Path.cwd()}), no OWNER/NAME of the hub, {known}")
