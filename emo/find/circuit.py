"""A circuit as a small portable object: every emotion's units, what is added to each, whose they are (methods 1.10).

On disk it is a folder with two files. ``circuit.json``: emotions, shape of the model, quotas per layer, provenance,
hash of the model's weights. ``circuit.safetensors``: of every kind and emotion the units and their difference vectors.
The tensors are renamed into place first, and circuit.json holds the hash of what belongs to it: who reads while another
writes is told so, and never gets half of each.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from emo.config.choices import UNITS
from emo.core.errors import UserError, check_choice
from emo.core.sealed import DamagedError, seal, unseal
from emo.core.types import Site, Tokens
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.ops import AddUnits

SITES = {"neurons": Site.NEURON, "heads": Site.HEAD}
FORMAT = 1  # of the files; another number is refused
JSON, TENSORS = "circuit.json", "circuit.safetensors"
KEYS = {"format", "emotions", "shape", "weights", "quotas", "digest", "provenance"}


class Shape(NamedTuple):
    """Sizes of a model that a circuit fits: blocks, residual width, FFN width, heads per block, head width."""

    n_layers: int
    d: int
    f: int
    h: int
    p: int

    @classmethod
    def of(cls, lm: LM) -> Shape:
        """Return the shape of a loaded model."""
        return cls(lm.n_layers, lm.d, lm.f, lm.h, lm.p)

    def units(self, kind: str) -> tuple[int, int]:
        """Return how many units of ``kind`` a block has, and how many values each."""
        return (self.f, 1) if kind == "neurons" else (self.h, self.p)

    def __str__(self) -> str:
        return f"{self.n_layers} blocks of width {self.d}, {self.f} neurons, {self.h} heads of width {self.p}"


@dataclass(frozen=True, eq=False)
class Part:
    """The units of one kind for one emotion, each with what is added to it; on the CPU.

    Attributes:
        layer: (k,) block of every unit, int64.
        unit: (k,) its index within the block, int64.
        delta: (k, w) its difference vector, float32; w = 1 for neurons, p for heads.
    """

    layer: Tensor
    unit: Tensor
    delta: Tensor

    def at(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return the columns of a block's units, and what is added to each: (m*w,) both."""
        here, w = self.layer == layer, self.delta.shape[1]
        return (self.unit[here, None] * w + torch.arange(w)).flatten(), self.delta[here].flatten()

    def check(self, blocks: int, units: int, width: int) -> None:
        """Raise `ValueError` unless this is a part for so many blocks, units per block and values per unit."""
        k = len(self.layer)
        if self.layer.dtype != torch.int64 or self.unit.dtype != torch.int64 or self.delta.dtype != torch.float32:
            raise ValueError("layer and unit must be int64, delta float32")
        if self.layer.shape != (k,) or self.unit.shape != (k,) or self.delta.shape != (k, width):
            shapes = ", ".join(str(tuple(x.shape)) for x in (self.layer, self.unit, self.delta))
            raise ValueError(f"layer, unit, delta have shapes {shapes}; (k), (k), (k, {width}) are needed")
        for what, index, size in (("block", self.layer, blocks), ("unit", self.unit, units)):
            if k and not 0 <= int(index.min()) <= int(index.max()) < size:
                raise ValueError(f"{what} {int(index.min())}..{int(index.max())}: outside 0..{size - 1}")
        if len(torch.unique(self.layer * units + self.unit)) < k:
            raise ValueError("a unit stands there twice")
        if not bool(self.delta.isfinite().all()):
            raise ValueError("a delta is not finite")


@dataclass(frozen=True, eq=False)
class Circuit:
    """The units that carry each emotion in one model, and the difference vectors that bring it about.

    Attributes:
        emotions: names, none twice.
        neurons: one part per emotion.
        heads: one part per emotion.
        shape: of the model that it was found in.
        weights: `emo.model.fingerprint.fingerprint` of that model.
        provenance: how it was found (model id, commit, settings, importances); JSON values. Part of no comparison.

    Raises:
        ValueError: parts that do not fit emotions or shape.
    """

    emotions: tuple[str, ...]
    neurons: tuple[Part, ...]
    heads: tuple[Part, ...]
    shape: Shape
    weights: str
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(set(self.emotions)) < len(self.emotions) or not self.emotions:
            raise ValueError(f"emotions {list(self.emotions)}: at least one and none twice are needed")
        for kind in UNITS:
            parts = getattr(self, kind)
            if len(parts) != len(self.emotions):
                raise ValueError(f"{len(parts)} parts of {kind} for {len(self.emotions)} emotions")
            for emotion, part in zip(self.emotions, parts, strict=True):
                try:
                    part.check(self.shape.n_layers, *self.shape.units(kind))
                except ValueError as error:
                    raise ValueError(f"{kind} of {emotion}: {error}") from None

    def of(self, names: Sequence[str]) -> Self:
        """Return the circuit of some of its emotions, in the given order.

        Raises:
            UserError: an emotion that it does not have.
        """
        for name in names:
            check_choice("emotions.names", name, self.emotions)
        at = [self.emotions.index(name) for name in names]
        neurons, heads = (tuple(getattr(self, kind)[e] for e in at) for kind in UNITS)
        return replace(self, emotions=tuple(names), neurons=neurons, heads=heads)

    def part(self, kind: str, emotion: int) -> Part:
        """Return the units of one of `UNITS` for the emotion of an index."""
        if kind not in UNITS:
            raise ValueError(f"kind {kind!r}: not one of {', '.join(UNITS)}")
        part: Part = getattr(self, kind)[emotion]
        return part

    def quotas(self, kind: str) -> list[list[int]]:
        """Return how many units of one of `UNITS` each layer has, (e, l)."""
        parts = [self.part(kind, e) for e in range(len(self.emotions))]
        return [torch.bincount(part.layer, minlength=self.shape.n_layers).tolist() for part in parts]

    def digest(self) -> str:
        """Return the sha256 (64 hex digits) of what it does: neither provenance nor the order of units changes it."""
        known = hashlib.sha256(json.dumps([self.emotions, self.shape, self.weights]).encode())
        for kind in UNITS:
            for part in getattr(self, kind):
                order = (part.layer * self.shape.units(kind)[0] + part.unit).argsort()
                known.update(json.dumps([kind, part.layer[order].tolist(), part.unit[order].tolist()]).encode())
                known.update(part.delta[order].contiguous().numpy().astype("<f4").tobytes())
        return known.hexdigest()

    def edits(self, scale: float | Sequence[float] = 1.0, emotions: Sequence[str] | None = None) -> list[Edit]:
        """Return the edits that add ``scale * delta`` from the last prompt token on, neurons and heads of every block.

        Args:
            scale: lambda, one number or one per condition.
            emotions: of condition 0, 1, ...; None: all, in the order of ``self.emotions``.

        Raises:
            UserError: an emotion that the circuit does not have.
            ValueError: another number of scales than of emotions.
        """
        names = self.emotions if emotions is None else tuple(emotions)
        for name in names:
            check_choice("emotion", name, self.emotions)
        scales = [float(scale)] * len(names) if isinstance(scale, int | float) else list(scale)
        made = []
        for kind in UNITS:
            parts = [self.part(kind, self.emotions.index(name)) for name in names]
            for layer in range(self.shape.n_layers):
                columns, deltas = zip(*(part.at(layer) for part in parts), strict=True)
                if any(map(len, columns)):
                    values = [own * delta for own, delta in zip(scales, deltas, strict=True)]
                    made.append(Edit(SITES[kind], layer, AddUnits.of(columns, values), Tokens.EVERY_STEP))
        return made

    def check(self, shape: Shape, weights: str, allow_other_weights: bool = False) -> None:
        """Refuse a model that the circuit does not belong to.

        Args:
            shape: of the model.
            weights: its fingerprint.
            allow_other_weights: whether other weights of the same shape will do.

        Raises:
            UserError: the shapes differ, or the weights do and may not.
        """
        if shape != self.shape:
            raise UserError(
                f"circuit.path: this circuit is of a model with {self.shape}, and the model has {shape}; "
                "type the model that the circuit was found in"
            )
        if weights != self.weights and not allow_other_weights:
            raise UserError(
                f"circuit.path: this circuit was found in other weights ({self.weights[:12]}; the model has "
                f"{weights[:12]}); type circuit.allow_other_weights=true to apply it all the same"
            )

    def save(self, folder: str | Path) -> None:
        """Write circuit.json and circuit.safetensors into ``folder``, each whole or not at all.

        Raises:
            ValueError: the provenance holds what JSON cannot.
            OSError: the folder cannot be written.
        """
        folder = Path(folder)
        quotas = {kind: dict(zip(self.emotions, self.quotas(kind), strict=True)) for kind in UNITS}
        described = {
            "format": FORMAT, "emotions": self.emotions, "shape": self.shape._asdict(), "weights": self.weights,
            "quotas": quotas, "digest": self.digest(), "provenance": self.provenance,
        }  # fmt: skip
        text = json.dumps(seal(described), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as scratch:
            save_file(self._tensors(), Path(scratch) / TENSORS)
            (Path(scratch) / JSON).write_text(text, encoding="utf-8")
            for name in (TENSORS, JSON):
                os.replace(Path(scratch) / name, folder / name)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a circuit from its folder or its circuit.json.

        Raises:
            UserError: there is none, or the files are not those of one circuit.
        """
        path = Path(path).expanduser()
        file = path / JSON if path.is_dir() else path
        try:
            text = file.read_text(encoding="utf-8")
            tensors = load_file(file.with_name(TENSORS))
            return cls._read(json.loads(text), tensors)
        except FileNotFoundError as error:
            raise UserError(
                f"{error.filename or file.with_name(TENSORS)}: no such file; type the folder of a circuit.json"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, DamagedError) as error:
            why = error if type(error) in (ValueError, OSError, DamagedError) else f"{type(error).__name__}: {error}"
            raise UserError(
                f"{file}: no circuit that can be used ({why}); make it anew or type another folder"
            ) from None

    def _tensors(self) -> dict[str, Tensor]:
        """Return all tensors by name, KIND/EMOTION/FIELD."""
        return {
            f"{kind}/{emotion}/{f.name}": getattr(part, f.name)
            .contiguous()
            .clone()  # parts may share memory, files may not
            for kind in UNITS
            for emotion, part in zip(self.emotions, getattr(self, kind), strict=True)
            for f in fields(Part)
        }

    @classmethod
    def _read(cls, described: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        if set(described) != KEYS:  # without a seal: written by an earlier version
            described = unseal(described)
        if described["format"] != FORMAT:
            raise ValueError(f"format {described['format']}; this version reads {FORMAT}")
        emotions = tuple(described["emotions"])
        wanted = {f"{kind}/{emotion}/{f.name}" for kind in UNITS for emotion in emotions for f in fields(Part)}
        if wanted != set(tensors):
            held = sorted({name.partition("/")[2].rpartition("/")[0] for name in tensors})
            raise ValueError(f"it names the emotions {', '.join(emotions)}, {TENSORS} holds {', '.join(held)}")
        parts = {
            kind: tuple(Part(**{f.name: tensors[f"{kind}/{e}/{f.name}"] for f in fields(Part)}) for e in emotions)
            for kind in UNITS
        }
        shape = Shape(**{key: int(size) for key, size in described["shape"].items()})
        made = cls(
            emotions, parts["neurons"], parts["heads"], shape, str(described["weights"]), described["provenance"]
        )
        if made.digest() != described["digest"]:
            raise ValueError(f"{TENSORS} is of another circuit than {JSON}, or one of them was changed")
        return made
