"""A direction as a control vector of llama.cpp: a GGUF file per emotion, which it adds to the residual stream.

    h_l <- h_l + scale * direction.l        behind block l, at every token, l = 1 .. L-1

The tensor ``direction.N`` is added to the output of block N, counted from 0 (resid_post of block N here); there is none
of block 0, which llama.cpp leaves alone, and a block without a tensor is not edited. It is added as it is: no live
length is looked at, so a dose that is relative to the state is fixed here at the state's mean size.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from emo.core.errors import UserError

KIND = "controlvector"  # general.architecture of such files
FIRST = 1  # block: llama.cpp has no vector for block 0
# transformers' model_type -> llama.cpp's name of the architecture, where it is another one.
ARCHITECTURES = {
    "mistral": "llama",
    "mixtral": "llama",
    "gemma3_text": "gemma3",
    "gpt_neox": "gptneox",
    "qwen3_moe": "qwen3moe",
}
Told = str | int | float | list[float] | list[int]


def write_control_vector(path: Path, vectors: Mapping[int, Tensor], family: str, told: Mapping[str, Told]) -> None:
    """Write a control vector, whole or not at all.

    Args:
        path: of the file.
        vectors: block -> (d,) what scale 1 adds behind it; blocks from 1 on.
        family: transformers' model_type; llama.cpp shows it and does not check it.
        told: further keys of the file, each below ``emo.``.

    Raises:
        ValueError: no vector, or one of block 0.
    """
    if not vectors or min(vectors) < FIRST:
        raise ValueError(f"blocks {sorted(vectors)}: at least one, and none before {FIRST}")
    handle, scratch = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    os.close(handle)
    try:
        writer = gguf.GGUFWriter(scratch, KIND)
        writer.add_string(f"{KIND}.model_hint", ARCHITECTURES.get(family, family))
        writer.add_uint32(f"{KIND}.layer_count", len(vectors))
        for key, value in told.items():
            _add(writer, f"emo.{key}", value)
        for block in sorted(vectors):
            writer.add_tensor(f"direction.{block}", vectors[block].float().cpu().contiguous().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        Path(scratch).chmod(0o644)  # a temporary file is private
        os.replace(scratch, path)
    finally:
        Path(scratch).unlink(missing_ok=True)


def _add(writer: gguf.GGUFWriter, key: str, value: Told) -> None:
    if isinstance(value, str):
        writer.add_string(key, value)
    elif isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, int):
        writer.add_int32(key, value)
    else:
        writer.add_float32(key, value)


def read_control_vector(path: str | Path) -> tuple[dict[int, Tensor], dict[str, object]]:
    """Return the vectors (d,) of a control vector by block, and all that the file says by key.

    Raises:
        UserError: it is no control vector.
    """
    try:
        reader = gguf.GGUFReader(path)
        told = {name: field.contents() for name, field in reader.fields.items()}
        if told.get("general.architecture") != KIND:
            raise ValueError(f"of the kind {told.get('general.architecture')}")
        vectors = {
            int(tensor.name.removeprefix("direction.")): torch.from_numpy(np.array(tensor.data, dtype=np.float32))
            for tensor in reader.tensors
            if tensor.name.startswith("direction.")
        }
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path}: no control vector that can be read ({error})") from None
    return vectors, told
