"""What our own machinery costs: the share of time spent in hooks, and the growth of memory with the samples.

A hook's time holds the edit's arithmetic, which a script spends as well; the note beside the row tells the two apart.

``python -m bench.memory MODEL SAMPLES`` is the process that the second one starts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from bench.cases import BATCH, steered
from bench.inputs import EMOTIONS, Size
from bench.meters import hook_seconds, seconds
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.ops import PerToken

ROOT = Path(__file__).resolve().parent.parent
TIMES = 10  # more samples


class Overhead(NamedTuple):
    """What was measured; seconds are None where none were."""

    timed: str
    target: str
    ratio: float
    ours_s: float | None = None
    whole_s: float | None = None


@dataclass(frozen=True, eq=False)
class Timed(PerToken):
    """An op that notes how long it takes: to look its parameters up, and to edit."""

    op: PerToken
    spent: list[float]

    def rows(self, cond: Tensor) -> tuple[Tensor, ...]:
        """See `PerToken`."""
        start = time.perf_counter()
        out = self.op.rows(cond)
        self.spent.append(time.perf_counter() - start)
        return out

    def apply(self, x: Tensor, gain: Tensor | None, *rows: Tensor) -> Tensor:
        """See `PerToken`."""
        start = time.perf_counter()
        out = self.op.apply(x, gain, *rows)
        self.spent.append(time.perf_counter() - start)
        return out

    def to(self, device: torch.device) -> Timed:
        """Return the same on ``device``."""
        return Timed(self.op.to(device), self.spent)


def hooks(lm: LM, size: Size, rounds: int) -> Overhead:
    """Return the share of a steered generation that is spent in hooks, the edit itself included."""
    prompts, rows, edits, _, layers = steered(lm, size)
    inside: list[float] = []
    timed = [replace(edit, op=Timed(edit.op, inside)) for edit in edits if isinstance(edit.op, PerToken)]

    def run() -> None:
        lm.prefixes.clear()
        generate(lm, prompts, rows, timed, size.tokens, BATCH)

    run()
    measured = []
    for _ in range(rounds):
        inside.clear()
        with hook_seconds() as spent:
            whole = seconds(lm, run)
        measured.append((sum(spent) / whole, sum(spent), whole, len(spent), sum(inside)))
    share, own, whole, calls, arithmetic = sorted(measured)[len(measured) // 2]
    return Overhead(
        f"{len(rows)} replies of up to {size.tokens} tokens, steered in {len(layers)} blocks: {calls} hook calls of "
        f"{1e6 * own / calls:.0f} microseconds, {1e6 * arithmetic / calls:.0f} of them the edit's arithmetic "
        f"({arithmetic / whole:.2%} of the time, the rest {(own - arithmetic) / whole:.2%}); "
        "ours s: in hooks, peer s: whole, ratio: their share",
        "ratio <= 0.01",
        share,
        own,
        whole,
    )


def memory(name: str, size: Size) -> Overhead:
    """Return the peak memory of attribution at ten times the samples, over that at one."""
    before, once = _peak(name, size.memory)
    _, more = _peak(name, TIMES * size.memory)
    return Overhead(
        f"attribution of {size.memory} and of {TIMES * size.memory} samples x {len(EMOTIONS)} emotions, a "
        f"process each: {once} and {more} MiB at the peak ({before} before any sample); ratio: of the peaks",
        "ratio <= 1.1",
        more / once,
    )


def _peak(name: str, count: int) -> tuple[int, int]:
    command = [sys.executable, "-m", "bench.memory", name, str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"bench.memory: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout)
    return found["before"], found["peak"]
