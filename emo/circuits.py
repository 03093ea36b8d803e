"""Circuits: a budget of units allocated to layers, and writing with a circuit that was found (methods 1.10, 1.11).

A circuit found on one machine is applied on another with

    import emo.circuits

    circuit = emo.circuits.Circuit.load("outputs/run/0123456789abcdef/circuit")
    lm = emo.load_model("llama32_3b")
    print(emo.circuits.write(circuit, lm, ["My train leaves in ten minutes."], "anger", scale=0.8))

This is the public name of what `emo.find.allocation` and `emo.find.circuit` define.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from emo.config.choices import ALLOCATIONS
from emo.config.choices import UNITS as KINDS
from emo.core.errors import check_choice
from emo.find.allocation import allocate, quotas, split_budget
from emo.find.circuit import Circuit, Part, Shape
from emo.model.fingerprint import fingerprint
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.prompts import user_ids

if TYPE_CHECKING:
    from emo.cli.handles import JobHandle

__all__ = [
    "ALLOCATIONS", "KINDS", "Circuit", "Part", "Shape", "allocate", "quotas", "split_budget", "write",
]  # fmt: skip


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
