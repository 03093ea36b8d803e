"""The files of an artifact that is not finished yet, beside where it will lie.

    <store>/<stage>/.partial-<first 16 digits of the address>/rows-<random>.jsonl    a file per process that writes
                                                              <loop>.json and <loop>-<random>/tensors.safetensors

A line of ``rows`` is what was finished since the line before: sealed, so that a torn or changed one is as good as not
there. Sums are replaced as they grow; their JSON names the file of the tensors and its digest.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from emo.core.sealed import DamagedError, changed, file_digests, read_sealed, seal, unseal

PREFIX = ".partial-"
TENSOR = "tensor"  # marks a tensor in JSON: base64 of its bytes, dtype, shape
DTYPES = {str(dtype): dtype for dtype in (torch.float32, torch.float64, torch.int64, torch.bool)}


class Sums(NamedTuple):
    """Sums over some of the rows of a loop."""

    tensors: dict[str, Tensor]
    done: set[int]  # the rows that are in them


class Log:
    """What is finished of the artifact of one address."""

    def __init__(self, stage_folder: Path, key: str) -> None:
        self.key, self.folder = key, stage_folder / f"{PREFIX}{key[:16]}"
        self._own = self.folder / f"rows-{uuid4().hex[:12]}.jsonl"  # two processes never write into one file
        self._rows: dict[str, Any] | None = None
        self.spent_s = 0.0  # what earlier processes took for it, known once `rows` was called

    def rows(self) -> dict[str, Any]:
        """Return the finished rows by their names (`named`), read once."""
        if self._rows is None:
            self._rows = {}
            for path in sorted(self.folder.glob("rows-*.jsonl")):
                for line in _lines(path):
                    self._read(line)
        return self._rows

    def _read(self, line: bytes) -> None:
        assert self._rows is not None
        try:
            content = unseal(json.loads(line))
            if content["of"] == self.key:
                self._rows |= {name: _decoded(value) for name, value in content["rows"]}
                self.spent_s += content["took_s"]
        except (DamagedError, ValueError, LookupError, TypeError):
            return  # torn by a kill, or changed: these rows are computed again

    def append(self, rows: list[tuple[str, Any]], took_s: float) -> None:
        """Keep rows, by name and value (JSON, a tensor, or a dictionary of both).

        Raises:
            OSError: it could not be written.
        """
        line = seal({"of": self.key, "rows": [[name, _encoded(x)] for name, x in rows], "took_s": round(took_s, 3)})
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._own.open("ab") as file:
            if file.tell():
                file.write(b"\n")  # before, not behind: half a line of a full disk must not swallow this one
            file.write(json.dumps(line, allow_nan=False).encode())

    def sums(self, what: str) -> Sums | None:
        """Return the sums of a loop, None where there are none or they are not what was written."""
        try:
            meta = read_sealed(self._place(what))
            if meta["of"] != self.key or changed(self.folder, meta["files"]):
                return None
            [name] = meta["files"]
            return Sums(load_file(self.folder / name), set(meta["done"]))
        except (DamagedError, OSError, ValueError, LookupError, TypeError, SafetensorError):
            return None

    def keep_sums(self, what: str, sums: Sums) -> None:
        """Replace the sums of a loop.

        Raises:
            OSError: it could not be written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self._place(what)
        name = f"{place.stem}-{uuid4().hex[:12]}"
        held = {key: x.detach().cpu().contiguous() for key, x in sums.tensors.items()}
        (self.folder / name).mkdir()
        path = self.folder / name / "tensors.safetensors"
        save_file(held, path)
        files = {f"{name}/{own}": digest for own, digest in file_digests(path.parent).items()}
        scratch = self.folder / f"{name}.json"
        scratch.write_text(json.dumps(seal({"of": self.key, "files": files, "done": sorted(sums.done)})))
        scratch.replace(place)
        for old in self.folder.glob(f"{place.stem}-*/"):
            if old.name != name:
                shutil.rmtree(old, ignore_errors=True)

    def _place(self, what: str) -> Path:
        return self.folder / f"{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"

    def drop(self) -> None:
        """Forget all: the artifact is there."""
        shutil.rmtree(self.folder, ignore_errors=True)


def named(what: str, of: object) -> str:
    """Return the name of a row: of which loop, and what it is there (a JSON value)."""
    return json.dumps([what, of], sort_keys=True, ensure_ascii=False)


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")
    except OSError:  # dropped by the process that finished it
        return []


def _encoded(value: Any) -> Any:
    if isinstance(value, Tensor):
        x = value.detach().cpu().contiguous()
        text = base64.b64encode(x.numpy().tobytes()).decode()
        return {TENSOR: text, "dtype": str(x.dtype), "shape": list(x.shape)}
    return {key: _encoded(x) for key, x in value.items()} if isinstance(value, dict) else value


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if TENSOR not in value:
        return {key: _decoded(x) for key, x in value.items()}
    data, dtype = bytearray(base64.b64decode(value[TENSOR])), DTYPES[value["dtype"]]
    return (torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)).view(value["shape"])
