"""A model in a folder of one's own: which files it is made of, what they say together, and why one cannot be read.

Its identity is the sha256 over the content of its weights, configuration and tokenizer: neither where the folder lies
nor when it was written, and no other file in it (optimiser states, logs) is part of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from emo.core.errors import UserError
from emo.core.home import cache_home
from emo.core.kept_digests import digests
from emo.model.supported import PICKLED, QUANTISED, check_tokenizer_files, quantised

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
BESIDE = (CONFIG, "generation_config.json")  # what is said of the weights; generation_config.json names the ends
TOKENIZER = (  # all that a tokenizer of transformers may be read from
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("merges.txt", "vocab.txt", "tekken.json", "chat_template.jinja", "chat_template.json"),
    *("*.model", "*.tiktoken", "additional_chat_templates/*.jinja"),
)


class Local(NamedTuple):
    """A folder that holds a model, and the sha256 over its content."""

    folder: str
    digest: str


def local_model(path: str) -> Local:
    """Return a model's folder and what it holds, without reading a weight that was read before.

    Raises:
        UserError: no such folder, or no model in it that can be loaded.
    """
    folder = Path(path).expanduser().absolute()
    name = f"model.path={path}"
    if not folder.is_dir():
        raise UserError(f"{name}: no such folder (looked from {Path.cwd()})")
    try:
        weights = _weights(name, folder)
        check_tokenizer_files(name, _names(folder))
        return Local(str(folder), content(name, folder, [*BESIDE, *TOKENIZER], weights))
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror or error})") from None


def content(name: str, folder: Path, patterns: Sequence[str], files: Sequence[str] = ()) -> str:
    """Return the sha256 over the names and contents of the files of ``folder`` that there are.

    Args:
        name: what a line that says why this takes long names.
        folder: holds them.
        patterns: names, or patterns of them.
        files: names that are there.
    """
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    paths = sorted({*found, *(folder / file for file in files)})
    own = zip(paths, digests(name, paths, cache_home() / "digests"), strict=True)
    told = json.dumps([[path.relative_to(folder).as_posix(), digest] for path, digest in own])
    return hashlib.sha256(told.encode()).hexdigest()


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def _weights(name: str, folder: Path) -> list[str]:
    """Return the files of weights and their index; raises `UserError` where the folder holds no model to be loaded."""
    files = _names(folder)
    if ADAPTER in files:
        raise UserError(
            f"{name}: a LoRA adapter ({ADAPTER}), not a model; type its base model and model.adapter={folder}"
        )
    if CONFIG not in files:
        inside = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}"))
        hint = f"; it holds {', '.join(inside[:3])}: type model.path={folder / inside[-1]}" if inside else ""
        raise UserError(f"{name}: no {CONFIG} in it{hint or '; type the folder that save_pretrained wrote'}")
    for file in files:
        if file in QUANTISED:
            raise quantised(name, QUANTISED[file], file)
    named = _read(name, folder / CONFIG).get("transformers_weights")  # where they are called otherwise
    first = str(named or next((file for file in (WEIGHTS, INDEX) if file in files), ""))  # as transformers looks
    if first not in files:
        raise UserError(_without_weights(name, files, first))
    if not first.endswith(".index.json"):
        return [first]
    parts = sorted(set(_read(name, folder / first).get("weight_map", {}).values()))
    lacking = [part for part in parts if part not in files]
    if lacking or not parts:
        which = f"; {lacking[0]} is missing" if lacking else ""
        raise UserError(f"{name}: not whole: {first} names {len(parts)} files of weights{which}; copy it again")
    return [first, *parts]


def _without_weights(name: str, files: Sequence[str], named: str) -> str:
    pickled = next((file for file in files if file.endswith(PICKLED) and not file.startswith(NO_WEIGHTS)), None)
    if named:
        return f"{name}: config.json names the weights {named}, which are not in it; copy it again"
    if pickled:
        return (
            f"{name}: holds pickled weights only ({pickled}), which can run code when they are read; they are never "
            "opened: save the model again, as safetensors (model.save_pretrained)"
        )
    if any(file.lower().endswith(".gguf") for file in files):
        return (
            f"{name}: holds GGUF files only, whose weights are quantised; type the folder of the model that they were "
            "made from"
        )
    return f"{name}: no weights in safetensors ({WEIGHTS}) in it; type the folder that save_pretrained wrote"


NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "rng_state", "scaler")  # begins what a trainer leaves beside


def _read(name: str, path: Path) -> dict[str, Any]:
    """Return a JSON object, or refuse the file."""
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{name}: {path.name} is no JSON ({error})") from None
    if not isinstance(made, dict):
        raise UserError(f"{name}: {path.name} holds no object")
    return made
