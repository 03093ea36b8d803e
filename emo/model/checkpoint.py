"""Reading a checkpoint with transformers: no code of its repository, no pickled weights, no weight left to chance.

The only calls of ``from_pretrained`` on what a user names.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import transformers

from emo.core.errors import UserError
from emo.model.load_errors import snapshot
from emo.model.supported import check_tokenizer_files

SHOWN = 3  # keys named in a line


def read_config(source: str, **files: Any) -> Any:
    """Return the configuration of a checkpoint; ``files``: revision, local_files_only."""
    _quiet()
    return transformers.AutoConfig.from_pretrained(source, trust_remote_code=False, **files)


def read_tokenizer(name: str, source: str, **files: Any) -> Any:
    """Return the tokenizer of a checkpoint, from a vocabulary that is there.

    Args:
        name: what an error names, e.g. ``model.id=OWNER/NAME``.
        source: hub repository or folder.
        files: revision, local_files_only; gguf_file where the vocabulary is in one.

    Raises:
        UserError: there is no vocabulary; some classes of transformers make up an empty one without a word.
    """
    _quiet()
    try:
        return transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False, **files)
    finally:  # after the download; where reading failed, this is the truer reason
        folder = Path(source) if Path(source).is_dir() else snapshot(source, files.get("revision"))
        if folder is not None and "gguf_file" not in files:
            check_tokenizer_files(name, [path.name for path in folder.iterdir()])


def read_weights(kind: Any, name: str, source: str, **options: Any) -> Any:
    """Return the model of a checkpoint, every weight of which is in its files.

    Args:
        kind: transformers' class, e.g. ``AutoModelForCausalLM``.
        name: what an error names, e.g. ``model.id=OWNER/NAME``.
        source: hub repository or folder.
        options: revision, local_files_only, dtype and what else ``from_pretrained`` takes.

    Raises:
        UserError: weights are missing, have other shapes or belong to no part of the model.
    """
    _quiet()
    model, told = kind.from_pretrained(
        source,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # to be refused below, by name
        adapter_kwargs={"local_files_only": True},  # where peft is installed a model's own adapter is looked for
        **options,
    )
    check_keys(name, model, told)
    return model


def check_keys(name: str, model: transformers.PreTrainedModel, told: dict[str, Any]) -> None:
    """Refuse a model that the files do not fill: what is missing would be random numbers.

    What transformers itself ignores (tied heads, buffers of earlier versions) is not in ``told``; a key that belongs
    to no part of the model (a value head, a vision tower) changes none of its numbers.

    Args:
        name: what the error names.
        model: as loaded.
        told: the loading info of ``from_pretrained``.

    Raises:
        UserError: naming the first keys and how many there are.
    """
    shapes = {key: f"{key} ({list(have)} in the files, {list(want)} in the model)" for key, have, want in
              told["mismatched_keys"]}  # fmt: skip
    wrong = {
        "they lack": list(told["missing_keys"]),
        "of another shape are": list(shapes),
        "the model has no place for": [key for key in told["unexpected_keys"] if _is_part(model, key)],
    }
    if any(wrong.values()):
        parts = [f"{what} {_first([shapes.get(k, k) for k in _sorted(keys)])}" for what, keys in wrong.items() if keys]
        depth = getattr(model.config.get_text_config(), "num_hidden_layers", "its")
        raise UserError(
            f"{name}: its files are not those of the {type(model).__name__} with {depth} blocks that its config.json "
            f"describes: {'; '.join(parts)}"
        )


def _is_part(model: transformers.PreTrainedModel, key: str) -> bool:
    """Tell whether a key of the files lies in a part of the model, and is no buffer that it computes itself."""
    prefix = f"{model.base_model_prefix}."
    own, base = {name for name, _ in model.named_children()}, {name for name, _ in model.base_model.named_children()}
    rest = key.removeprefix(prefix)
    buffers = {name.removeprefix(prefix) for name, _ in model.named_buffers()}
    return rest.partition(".")[0] in (own | base) and rest not in buffers


def _sorted(keys: Collection[str]) -> list[str]:
    """Return keys with the numbers of blocks in their order."""
    return sorted(keys, key=lambda key: [part.zfill(9) if part.isdigit() else part for part in re.split(r"\.", key)])


def _first(keys: list[str]) -> str:
    rest = f", ... ({len(keys)} in all)" if len(keys) > SHOWN else ""
    return ", ".join(keys[:SHOWN]) + rest


def _quiet() -> None:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
