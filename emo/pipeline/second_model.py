"""The second model of a job, that ``against`` names: of the same architecture, measured on the same data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from emo.config.schema import Config, ModelConfig
from emo.core.errors import UserError
from emo.model.adapter import CONFIG
from emo.model.lm import ModelSpec
from emo.model.load import describe
from emo.model.named import model_config
from emo.model.size import shape_config


def second_config(config: Config) -> ModelConfig:
    """Return the ``model`` section of the second model: the first with an adapter, or another by its name.

    Raises:
        UserError: there is none of this name.
    """
    given = str(config.against)
    if (Path(given).expanduser() / CONFIG).is_file():
        return replace(config.model, adapter=given)
    return replace(model_config(given), chat=config.model.chat, device_map=config.model.device_map)


def second_spec(config: Config, first: ModelSpec) -> ModelSpec:
    """Return the second model's description.

    Raises:
        UserError: it cannot be had, or its blocks, heads, neurons or width are not those of the first.
    """
    made = describe(second_config(config), config.device, config.dtype)
    shapes = [
        f"{s.family}, {s.n_layers} blocks of width {shape_config(s).get_text_config().hidden_size}, "
        f"{s.n_neurons} neurons, {s.n_heads} heads"
        for s in (first, made)
    ]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"against={config.against}: another architecture ({shapes[1]}) than {first.title} ({shapes[0]}); units and "
            "directions are compared one by one, so type a model that was trained on from the same one"
        )
    return made
