"""From a model's configuration to a verified language model, loaded once per process.

`describe` answers what an address or a layer check needs (commit, sizes, dtype) without reading
weights; `load` reads them and verifies the sites.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download

from emo.config.schema import ModelConfig
from emo.core.console import note
from emo.core.errors import UserError
from emo.model import embedded, tiny
from emo.model.adapter import Adapter, adapter_config, check_fits, find_adapter, own_tokenizer
from emo.model.chat import THINKS, opens_thinking
from emo.model.checkpoint import read_config, read_tokenizer, read_weights
from emo.model.context import context_of
from emo.model.families import experts_of, family_of, is_parallel
from emo.model.hub import hub_commit
from emo.model.keep import KeepOne
from emo.model.lm import LM, ModelSpec
from emo.model.load_errors import load_errors
from emo.model.local import Local, local_model
from emo.model.merging import merge
from emo.model.supported import check_config, check_files
from emo.model.verify import verify

FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]  # no pickled weights
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def _device(requested: str) -> str:
    device = ("cuda" if torch.cuda.is_available() else "cpu") if requested == "auto" else requested
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise UserError(f"device={requested}: not usable here ({first}); type device=cpu or device=auto") from None
    return device


def describe(config: ModelConfig, device: str = "auto", dtype: str = "auto") -> ModelSpec:
    """Resolve commit, sizes, device and dtype without loading weights; raises `UserError`.

    What a folder holds is looked at every time: it may have been trained on since.
    """
    own = local_model(config.path or "") if config.source == "local" else None
    adapter = find_adapter(config.adapter) if config.adapter else None
    return _describe(
        config.name, config.source, config.id, config.revision, config.chat, config.device_map, device, dtype, own,
        adapter,
    )  # fmt: skip


@lru_cache(maxsize=32)
def _describe(
    name: str,
    source: str,
    model_id: str,
    revision: str | None,
    chat: str,
    device_map: str | None,
    device: str,
    dtype: str,
    own: Local | None,
    adapter: Adapter | None,
) -> ModelSpec:
    where, local = _device(device), True
    if source == "tiny":
        hf, folder = tiny.tiny_config(model_id), ""
        commit = f"tiny{tiny.VERSION}-{model_id}-transformers-{transformers.__version__}"
    elif source == "embedded":
        path, commit = embedded.embedded_folder(model_id)
        hf, folder = read_config(str(path)), str(path)
    elif own is not None:
        (folder, commit), title = own, f"model.path={own.folder}"
        with load_errors(folder, local=True, folder=folder, key="model.path"):
            hf = read_config(folder)
            check_config(title, hf)
    else:
        found = hub_commit(model_id, revision)
        commit, local, folder = found.commit, found.local, model_id
        check_files(f"model.id={model_id}", found.files, whole=not local)
        with load_errors(model_id, revision, local):
            hf = read_config(model_id, revision=commit, local_files_only=local)
            check_config(f"model.id={model_id}", hf)
    text = hf.get_text_config()
    resolved = dtype
    if dtype == "auto":  # the same on every machine: it is part of every address
        resolved = _own_dtype(hf, text) if source in ("hub", "local") else "float32"
    spec = ModelSpec(
        name, source, model_id, commit, folder, text.num_hidden_layers, resolved, where, device_map, chat, local,
        hf.model_type, text.num_attention_heads, _neurons(text), context_of(text), is_parallel(hf),
    )  # fmt: skip
    if adapter is None:
        return spec
    check_fits(adapter, spec.title, hf)
    return spec._replace(adapter=adapter.folder, adapter_commit=adapter.commit)


def _own_dtype(config: Any, text: Any) -> str:
    """Return the dtype that a checkpoint's configuration names; float32 where it names none of `DTYPES`."""
    named = str(getattr(text, "dtype", None) or getattr(config, "dtype", None)).removeprefix("torch.")
    return named if named in DTYPES else "float32"


def _neurons(config: Any) -> int:
    """Return the FFN width, of all experts together; GPT-2 writes null for four times the residual width."""
    experts = experts_of(config)
    if experts is not None:
        return experts[0] * experts[1]
    return int(getattr(config, "intermediate_size", None) or getattr(config, "n_inner", None) or 4 * config.hidden_size)


@KeepOne
def load(spec: ModelSpec) -> LM:
    """Load and verify the model of ``spec``; the same object for the same spec, until another is loaded.

    Raises `UserError` where the checkpoint cannot be had, its files do not fill it, or a site cannot be found.
    """
    start = time.perf_counter()
    with _errors(spec):
        lm = _load(spec)
        thinks = opens_thinking(lm)  # refuses a template that cannot be used
    seconds = time.perf_counter() - start
    note(f"{spec.name}: {lm.n_layers} blocks of width {lm.d}, {spec.dtype} on {lm.device}, loaded in {seconds:.1f} s")
    if thinks:
        note(f"{spec.title}: {THINKS}")
    if spec.device == "cpu" and spec.source != "tiny":
        if spec.dtype == "float32" and "amx_bf16" in bfloat16_units():
            note("this CPU has bfloat16 units: dtype=bfloat16 takes a third of the time, at three digits")
        if spec.dtype == "float16" or (spec.dtype == "bfloat16" and not bfloat16_units()):
            note(
                f"{spec.dtype} is slow on this CPU, which has no units for it: dtype=float32 is many times as fast, "
                "with results of its own"
            )
    if getattr(lm.config, "auto_map", None):
        note(f"{spec.title}: code of its repository is not run; the model is transformers' {type(lm.model).__name__}")
    return lm


def _load(spec: ModelSpec) -> LM:
    if spec.source == "tiny":
        model: Any = tiny.tiny_model(spec.id)
        model = model if spec.adapter else model.to(dtype=DTYPES[spec.dtype])
    else:
        model = _from_pretrained(spec)
        check_held(spec, model)
    tokenizer = _tokenizer(spec)
    if spec.adapter:
        model = merge(model, spec.adapter, DTYPES[spec.dtype])
        trained = adapter_config(Path(spec.adapter)).get("base_model_name_or_path")
        note(f"{spec.name}: the adapter {spec.adapter} (trained on {trained}) is merged into the weights")
    if spec.source == "local":
        _check_unchanged(spec)
    if spec.device_map is None:
        model = model.to(spec.device)
    lm = LM(model.eval().requires_grad_(False), tokenizer, spec)
    verify(lm)
    return lm


def _errors(spec: ModelSpec) -> AbstractContextManager[None]:
    """Turn what goes wrong while a model's files are read into a line that names what the user typed."""
    if spec.source == "local":
        return load_errors(spec.folder, local=True, folder=spec.folder, key="model.path")
    return load_errors(spec.id, spec.commit, spec.local, None if spec.source == "hub" else spec.folder or None)


def _tokenizer(spec: ModelSpec) -> Any:
    """Return the tokenizer that a model was trained with last: of its adapter, if that brings one."""
    own = own_tokenizer(Path(spec.adapter)) if spec.adapter else None
    if own is not None:
        return own
    if spec.source == "tiny":
        return tiny.tiny_tokenizer(spec.id)
    return read_tokenizer(spec.title, spec.folder, **spec.where)


def _check_unchanged(spec: ModelSpec) -> None:
    """Refuse weights that were written while they were read: they are not those that the address names."""
    if local_model(spec.folder).digest != spec.commit:
        raise UserError(f"{spec.title}: was changed while it was read; type the same line again")


def check_held(spec: ModelSpec, model: Any) -> None:
    """Refuse a model of which blocks lie elsewhere than where they run: hooks and weights are on two devices then.

    Raises:
        UserError: accelerate has put some of it on the disk, or on the CPU beside another device.
    """
    places = {name: str(place) for name, place in (getattr(model, "hf_device_map", None) or {}).items()}
    spread = len(set(places.values())) > 1
    away = [name for name, place in places.items() if place == "disk" or (place == "cpu" and spread)]
    away = away or [name for name, weight in model.named_parameters() if weight.is_meta]
    if away:
        raise UserError(
            f"{spec.title}: does not fit on the devices (model.device_map={spec.device_map} leaves {len(away)} of its "
            f"parts out, first {away[0]}); offloaded models are not supported: type a smaller model, "
            "dtype=bfloat16, or use more GPUs"
        )


@lru_cache(maxsize=4)
def read_vocabulary(spec: ModelSpec) -> Any:
    """Return the tokenizer of ``spec`` without reading the weights; raises `UserError` where it cannot be had."""
    with _errors(spec):
        return _tokenizer(spec)


def bfloat16_units() -> set[str]:
    """Return which units of the CPU multiply bfloat16 numbers in hardware; AMX is several times as fast as float32."""
    told: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # new in torch 2.9
    return {name for name in ("amx_bf16", "avx512_bf16", "avx10_2") if told.get(name)}


def fetch(spec: ModelSpec) -> None:
    """Bring the files of a hub model to the local cache without reading the weights; others are there already.

    Raises `UserError` where the hub does not give them.
    """
    if spec.source == "hub" and not spec.local:
        with load_errors(spec.id, spec.commit):
            snapshot_download(spec.id, revision=spec.commit, allow_patterns=FILES)


def _straight_to(device: str) -> dict[str, str] | None:
    """Return the device map that reads weights where they are needed, with no copy of them all on the CPU before."""
    return None if device == "cpu" or find_spec("accelerate") is None else {"": device}


def _from_pretrained(spec: ModelSpec) -> transformers.PreTrainedModel:
    options: dict[str, Any] = {"dtype": torch.float32 if spec.adapter else DTYPES[spec.dtype]}
    config = read_config(spec.folder, **spec.where)
    if family_of(config.model_type).eager:
        options["attn_implementation"] = "eager"
    straight = None if spec.adapter else _straight_to(spec.device)  # an adapter is merged on the CPU
    if (where := spec.device_map or straight) is not None:
        options["device_map"] = where
    kind, name = transformers.AutoModelForCausalLM, spec.title
    made: transformers.PreTrainedModel = read_weights(kind, name, spec.folder, **spec.where, **options)
    return made
