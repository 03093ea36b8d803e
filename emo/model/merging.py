"""Adding a LoRA adapter to the weights of a model, once, when they are read: what is left is a model like any other.

In float32 whatever the model's precision is, and rounded to that afterwards: a small difference is lost where it is
added to a number of half precision. The adapter's parts are all used, or it is refused.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
import transformers

from emo.core.errors import UserError
from emo.model.adapter import KEY, given_rows, weight_shapes
from emo.model.load_errors import load_errors


def merge(model: transformers.PreTrainedModel, folder: str, dtype: torch.dtype) -> transformers.PreTrainedModel:
    """Return the model with the adapter in ``folder`` added to its weights, in ``dtype``.

    Args:
        model: float32, as its own files have it; it is changed.
        folder: of the adapter, that `emo.model.adapter.check_fits` has let through.
        dtype: of the weights that are returned; buffers (rotary frequencies) keep theirs.

    Raises:
        UserError: peft cannot merge it, or has no use for a part of it.
    """
    name, path = f"{KEY}={folder}", Path(folder)
    with load_errors(folder, local=True, folder=path, key=KEY):
        from peft import PeftModel

        shapes = weight_shapes(name, path)
        rows = given_rows(model, shapes)
        table: Any = model.get_input_embeddings()
        if rows is not None and rows != len(table.weight):
            model.resize_token_embeddings(rows, mean_resizing=False)  # to be filled by the adapter's own
        device = str(table.weight.device)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            wrapped: Any = PeftModel.from_pretrained(model=model, model_id=folder, torch_device=device)
        _check_used(name, wrapped, set(shapes), [str(one.message) for one in told])
        merged: Any = wrapped.merge_and_unload(safe_merge=True)  # refuses what is not finite
    for attribute in ("peft_config", "_hf_peft_config_loaded"):
        vars(merged).pop(attribute, None)  # it is no adapted model any more
    return _cast(merged, dtype)


def _check_used(name: str, wrapped: Any, given: set[str], told: list[str]) -> None:
    """Refuse an adapter of which something was not read, or that lacks something that peft has made up."""
    from peft.utils import get_peft_model_state_dict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        read = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    held = read | {key for key in given if key in wrapped.state_dict()}
    missing, unread = sorted(read - given), sorted(given - held)
    if missing or unread or any("missing adapter keys" in line for line in told):
        which = f"{unread[0]} has no place in what adapter_config.json describes" if unread else (
            f"{(missing or ['a weight'])[0]} is missing in it"
        )  # fmt: skip
        raise UserError(f"{name}: its weights are not those of its adapter_config.json: {which}")


def _cast(model: Any, dtype: torch.dtype) -> Any:
    """Round the weights; ``model.to(dtype)`` would round the rotary frequencies too, as no loaded model has them."""
    if dtype != torch.float32:
        for weight in model.parameters():
            weight.data = weight.data.to(dtype)
        for part in (model.config, model.config.get_text_config()):
            part.dtype = dtype
    return model
