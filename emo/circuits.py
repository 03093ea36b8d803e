"""Circuits: a budget of units allocated to layers, and writing with a circuit that was found (methods 1.10, 1.11).

A circuit found on one machine is applied on another with

    import emo.circuits

    circuit = emo.circuits.Circuit.load("outputs/run/0123456789abcdef/circuit")
    lm = emo.load_model("llama32_3b")
    print(emo.circuits.write(circuit, lm, ["My train leaves in ten minutes."], "anger", scale=0.8))

and shared with

    emo.circuits.push(circuit, "OWNER/NAME", result="outputs/run/0123456789abcdef")
    circuit = emo.circuits.load("OWNER/NAME")

This is the public name of what `emo.find.allocation` and `emo.find.circuit` define.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from emo.config.choices import ALLOCATIONS
from emo.config.choices import UNITS as KINDS
from emo.core.errors import check_choice
from emo.find.allocation import allocate, quotas, split_budget
from emo.find.circuit import Circuit, Part, Shape
from emo.find.circuit_card import LICENCE, save_circuit
from emo.find.circuit_hub import push_circuit
from emo.find.circuit_similarity import find_circuit
from emo.model.fingerprint import fingerprint
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.prompts import user_ids

if TYPE_CHECKING:
    from emo.cli.handles import JobHandle

__all__ = [
    "ALLOCATIONS", "KINDS", "Circuit", "Part", "Shape", "allocate", "load", "push", "quotas", "save", "split_budget",
    "write",
]  # fmt: skip


def load(place: str | Path) -> Circuit:
    """Return a circuit from a folder (its own, or a job's), or from a repository OWNER/NAME of the hub.

    Of the hub the local cache will do, without a network too.

    Raises:
        UserError: there is none, or it is not what was written.
    """
    return Circuit.load(find_circuit(place, "circuit.path"))


def save(
    circuit: Circuit, folder: str | Path, result: JobHandle | str | Path | None = None, licence: str = LICENCE
) -> None:
    """Write a circuit into ``folder``: circuit.json, circuit.safetensors, and README.md, a card.

    Args:
        circuit: what to write.
        folder: made where it is not there.
        result: the finished job on it (`emo.job`, or its folder), for what the card says of its controls; None: the
            card says that nothing was measured.
        licence: as the hub names it, e.g. ``apache-2.0``; ``other``: that of the model.

    Raises:
        UserError: the job is not done, or is about another circuit.
    """
    save_circuit(circuit, folder, _numbers(result, circuit), licence)


def push(
    circuit: Circuit,
    name: str,
    result: JobHandle | str | Path | None = None,
    licence: str = LICENCE,
    private: bool = True,
) -> str:
    """Write a circuit and its card to a repository of the hub, and return the URL of the commit.

    Args:
        circuit: what to push; nothing but what `save` writes is sent.
        name: OWNER/NAME; made where it is not there.
        result: as for `save`.
        licence: as for `save`.
        private: whether a repository that is made is private.

    Raises:
        UserError: as for `save`; no token that may write there (HF_TOKEN), or no answer from the hub.
    """
    return push_circuit(circuit, name, _numbers(result, circuit), licence, private)


def _numbers(result: JobHandle | str | Path | None, circuit: Circuit) -> dict[str, Any] | None:
    if result is None:
        return None
    from emo.results.measured import measured  # pandas only where it is needed

    return measured(result if isinstance(result, str | Path) else result.folder, circuit)


def write(
    circuit: Circuit,
    lm: LM,
    prompts: str | Sequence[str],
    emotion: str,
    scale: float = 1.0,
    max_new_tokens: int = 100,
    *,
    allow_other_weights: bool = False,
    batch_size: int = 64,
    like: JobHandle | None = None,
) -> list[str]:
    """Return greedy replies to user messages while ``scale * delta`` is added at the circuit's units.

    The edit covers the last prompt token and every later one (methods 1.11).

    Args:
        circuit: what to add.
        lm: a model of the circuit's shape.
        prompts: user messages, each a conversation of its own; a text alone is one message.
        emotion: one of ``circuit.emotions``.
        scale: lambda; 0 leaves the model unedited.
        max_new_tokens: longest reply, in tokens.
        allow_other_weights: apply it to other weights of the same shape too, e.g. a fine-tuned checkpoint.
        batch_size: prompts in one forward pass; in float32 the replies do not depend on it.
        like: a job on a circuit (`emo.job`): prompts are asked with its template and system line, replies decoded as
            its own, with its strength and head tokens in place of ``scale`` and ``max_new_tokens``. Ids of its test
            samples are prompts too: then the replies are the job's.

    Raises:
        UserError: another emotion, a model of another shape, or of other weights where they are not allowed.
    """
    if like is not None:
        return like.write(prompts, emotion, circuit=circuit)
    check_choice("emotion", emotion, circuit.emotions)
    circuit.check(Shape.of(lm), fingerprint(lm), allow_other_weights)
    ids = user_ids(lm, [prompts] if isinstance(prompts, str) else prompts)
    rows = [Row(i, 0) for i in range(len(ids))]
    replies = generate(lm, ids, rows, circuit.edits(scale, [emotion]), max_new_tokens, batch_size)
    return [lm.tokenizer.decode(reply, skip_special_tokens=True).strip() for reply in replies]
