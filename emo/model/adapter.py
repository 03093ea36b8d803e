"""A LoRA adapter: where it lies, which it is, and whether it fits a model; no weight of either is read for that.

    W' = W + (lora_alpha / r) B A       (Hu et al. 2022, LoRA; arXiv:2106.09685), and its variants that peft merges

`emo.model.merging` adds it to the weights. What cannot be merged (prompts, prefixes) would have to stay beside the
model, and the sites of a model would not mean the same then.
"""

from __future__ import annotations

import importlib.util
import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers
from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open

from emo.core.errors import UserError
from emo.model.checkpoint import read_tokenizer
from emo.model.hub import hub_commit
from emo.model.load_errors import load_errors, words
from emo.model.local import TOKENIZER, content
from emo.model.supported import PICKLED

KEY = "model.adapter"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FILES = [CONFIG, WEIGHTS, *TOKENIZER]
PREFIX = "base_model.model."  # of every key of its weights
PEFT = "pip install peft==0.21.2"
STAYS = ("alora_invocation_tokens", "layer_replication", "use_qalora")  # keys of variants that no weights can hold


class Adapter(NamedTuple):
    """An adapter on this machine."""

    folder: str
    commit: str  # of its hub repository, or the sha256 of its files


def find_adapter(given: str) -> Adapter:
    """Return an adapter, brought to the local cache where it is on the hub.

    Args:
        given: a folder, or OWNER/NAME of a hub repository.

    Raises:
        UserError: it cannot be had, is no LoRA adapter in safetensors, or peft is not installed.
    """
    name, path = f"{KEY}={given}", Path(given).expanduser().absolute()
    if importlib.util.find_spec("peft") is None:
        raise UserError(f"{name}: the package peft is not installed, which merges adapters; type {PEFT}")
    if not path.is_dir():
        return _of_hub(given)
    check_files(name, [file.name for file in path.iterdir() if file.is_file()])
    try:
        check_config(name, adapter_config(path))
        return Adapter(str(path), content(name, path, FILES))
    except OSError as error:
        raise UserError(f"{name}: cannot be read ({error.strerror or error})") from None


@lru_cache(maxsize=32)
def _of_hub(given: str) -> Adapter:
    name, found = f"{KEY}={given}", hub_commit(given, None, KEY)
    check_files(name, sorted(found.files))
    with load_errors(given, found.commit, found.local, key=KEY):
        folder = snapshot_download(given, revision=found.commit, allow_patterns=FILES, local_files_only=found.local)
        check_config(name, adapter_config(Path(folder)))
    return Adapter(folder, found.commit)


def check_files(name: str, files: list[str]) -> None:
    """Refuse what holds no adapter in safetensors, by the names of its files; raises `UserError`."""
    if CONFIG not in files:
        if "config.json" in files:
            key = "model=local model.path" if Path(name.partition("=")[2]).is_dir() else "model=hub model.id"
            raise UserError(f"{name}: a model, not an adapter; type {key}={name.partition('=')[2]}")
        raise UserError(f"{name}: no {CONFIG} in it; type what peft's save_pretrained wrote")
    if WEIGHTS not in files:
        pickled = next((file for file in files if file.startswith("adapter_") and file.endswith(PICKLED)), None)
        if pickled:
            raise UserError(
                f"{name}: holds pickled weights only ({pickled}), which can run code when they are read; they are "
                f"never opened: save the adapter again, as {WEIGHTS}"
            )
        raise UserError(f"{name}: no {WEIGHTS} in it; type what peft's save_pretrained wrote")


def adapter_config(folder: Path) -> dict[str, Any]:
    """Return what adapter_config.json says; raises `UserError` where it is no JSON object."""
    try:
        made = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{KEY}={folder}: {CONFIG} is no JSON ({error})") from None
    if not isinstance(made, dict):
        raise UserError(f"{KEY}={folder}: {CONFIG} holds no object")
    return made


def check_config(name: str, config: dict[str, Any]) -> None:
    """Refuse what cannot be merged into the weights of a language model.

    Raises:
        UserError: another kind of adapter than LoRA, one of another task, or a variant that stays beside the weights.
    """
    kind, task = str(config.get("peft_type")), config.get("task_type")
    if kind.upper() != "LORA":
        raise UserError(
            f"{name}: an adapter of kind {kind}, and only LoRA is merged; merge it yourself, save the model, and type "
            "model=local model.path=FOLDER"
        )
    if task not in (None, "CAUSAL_LM"):
        raise UserError(f"{name}: made for {task}, not for a causal language model; type another")
    for key in STAYS:
        if config.get(key):
            raise UserError(
                f"{name}: {key} in {CONFIG}: no weights of the base model's shape can hold it; type another"
            )


def check_fits(adapter: Adapter, title: str, config: Any) -> None:
    """Refuse an adapter of which a weight has no place in a model, or another shape.

    Args:
        adapter: to be merged.
        title: of the model, for the line.
        config: transformers' configuration of the model.

    Raises:
        UserError: naming the first weight that does not fit, or the tokens that have no row in the embedding.
    """
    name, folder = f"{KEY}={adapter.folder}", Path(adapter.folder)
    shapes = weight_shapes(name, folder)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    trained = adapter_config(folder).get("base_model_name_or_path")
    of = f"; it was trained on {trained}" if trained else ""
    for key, have in shapes.items():
        if (told := _misfit(empty, key, have)) is not None:
            raise UserError(f"{name}: does not fit {title}: {told}{of}")
    rows = given_rows(empty, shapes) or empty.get_input_embeddings().weight.shape[0]
    if (tokens := own_tokens(folder)) is not None and tokens > rows:
        raise UserError(
            f"{name}: its tokenizer has {tokens} tokens, the embedding of {title} {rows} rows, and it brings no "
            "embedding: what it would read for the new ones is not in it; save it with save_embedding_layers=True"
        )


def weight_shapes(name: str, folder: Path) -> dict[str, list[int]]:
    """Return the shape of every weight of an adapter; raises `UserError` where the file cannot be read, or is empty."""
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            shapes = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - no dict
    except (SafetensorError, OSError) as error:
        raise UserError(f"{name}: {WEIGHTS} is truncated or damaged ({words(error)}); copy it again") from None
    if not shapes:
        raise UserError(f"{name}: {WEIGHTS} holds no weights")
    return shapes


def given_rows(model: transformers.PreTrainedModel, shapes: dict[str, list[int]]) -> int | None:
    """Return how many rows the embedding has that an adapter brings whole; None: it brings none."""
    return next((have[0] for key, have in shapes.items() if _is_table(model, _place(key)) and len(have) == 2), None)


def own_tokens(folder: Path) -> int | None:
    """Return how many tokens the tokenizer beside an adapter has; None: there is none beside it."""
    tokenizer = own_tokenizer(folder)
    return None if tokenizer is None else len(tokenizer)


def own_tokenizer(folder: Path) -> Any:
    """Return the tokenizer beside an adapter: it was trained with its tokens and its chat template; None: none."""
    if not any((folder / file).is_file() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        return None
    with load_errors(str(folder), local=True, folder=folder, key=KEY):
        return read_tokenizer(f"{KEY}={folder}", str(folder))


def _place(key: str) -> str:
    """Return the path of the module's weight that a key is for, or the module of a low-rank pair."""
    return key.removeprefix(PREFIX).replace(".base_layer.", ".").replace(".modules_to_save.", ".")


def _is_table(model: transformers.PreTrainedModel, place: str) -> bool:
    """Whether a weight is the embedding or the head, whose rows are tokens."""
    tables = {model.get_input_embeddings(), model.get_output_embeddings()}
    module, _, last = place.rpartition(".")
    return last == "weight" and any(path == module and one in tables for path, one in model.named_modules())


def _misfit(model: transformers.PreTrainedModel, key: str, have: list[int]) -> str | None:
    """Return why a weight of an adapter has no place in a model; None: it has one."""
    place = _place(key)
    module, _, part = place.partition(".lora_")
    if ".token_adapter." in key:  # rows of single tokens: peft looks whether they fit
        return None
    try:
        if not part:
            want = list(model.get_parameter(place).shape)
            same = have[1:] == want[1:] if _is_table(model, place) else have == want
            return None if same else f"{key} has shape {have}, the model's {want}"
        want = list(model.get_parameter(f"{module}.weight").shape)
    except AttributeError:
        return f"it has no place for {key}"
    if isinstance(model.get_submodule(module), torch.nn.Embedding) or not isinstance(
        model.get_submodule(module),
        torch.nn.Linear,  # GPT-2's Conv1D and tables hold (in, out)
    ):
        want = want[::-1]
    given = {"A": (have[-1], want[-1]), "B": (have[0], want[0]), "magnitude_vector": (have[-1], want[0])}
    which = next((k for k in given if part.removeprefix("embedding_").startswith(k)), None)
    if which is None or given[which][0] == given[which][1]:
        return None
    return f"{key} has shape {have}, the model's weight {want}"
