"""Results as JSON rows and as a readable table, with the machine and versions that they hold for."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from bench.peers.groups import INSTALL, Group
from bench.roofline import SQUARE
from emo.core.store import versions
from emo.model.lm import LM

CANNOT = "cannot:"  # how the error of a peer begins that has no means to do a case: no failure


class Measured(NamedTuple):
    """One row: a case against a peer. Seconds and operations are per sample where a side runs several."""

    case: str
    peer: str
    timed: str = ""
    target: str = ""
    ours_s: float | None = None
    peer_s: float | None = None
    ratio: float | None = None
    token_ratio: float | None = None
    max_rel_diff: float | None = None
    error: str | None = None
    ours_operations: float | None = None  # floating-point, of linear modules
    peer_operations: float | None = None
    ours_attainable: float | None = None  # operations a second of the same products alone
    peer_attainable: float | None = None

    @property
    def failed(self) -> bool:
        """Whether something went wrong."""
        return bool(self.error) and not str(self.error).startswith(CANNOT)

    def took(self, ours_s: float, peer_s: float) -> Measured:
        """Return the row with the seconds that both sides took."""
        return self._replace(ours_s=ours_s, peer_s=peer_s, ratio=peer_s / ours_s)

    def rate(self, side: str) -> float | None:
        """Return the operations a second that a side ("ours" or "peer") achieved; None where none were counted."""
        operations, taken = getattr(self, f"{side}_operations"), getattr(self, f"{side}_s")
        return operations / taken if operations and taken else None

    def shown(self) -> dict[str, Any]:
        """Return the row as it is written: 10^9 operations a second instead of operations."""
        frozen = ("case", "peer", "ours_s", "peer_s", "ratio", "token_ratio", "max_rel_diff", "error")
        row = {key: getattr(self, key) for key in frozen}
        for side in ("ours", "peer"):
            row[f"{side}_gflops"] = _billions(self.rate(side))
            row[f"{side}_attainable_gflops"] = _billions(getattr(self, f"{side}_attainable"))
        return row

    def line(self) -> str:
        """Return the row as one line for the terminal."""
        if self.error:
            return f"{self.case:22} {self.peer:23} {'' if not self.failed else 'error: '}{self.error}"
        return (
            f"{self.case:22} {self.peer:23} ratio {_shown(self.ratio)}{self.target and f' (target {self.target})'}, "
            f"tokens {_shown(self.token_ratio)}, differs {_small(self.max_rel_diff)}, "
            f"GFLOP/s {self.roof('ours')} : {self.roof('peer')}"
        )

    def roof(self, side: str) -> str:
        """Return achieved 10^9 operations a second, and which share of attainable that is."""
        rate, attainable = self.rate(side), getattr(self, f"{side}_attainable")
        return f"{rate / 1e9:.3g} ({rate / attainable:.0%})" if rate and attainable else "-"


def write(
    folder: Path,
    lm: LM,
    rows: Sequence[Measured],
    square: float,
    groups: Sequence[Group] = (),
    absent: Sequence[str] = (),
) -> None:
    """Write results.json and results.md into ``folder``.

    Args:
        folder: made if need be.
        lm: the model.
        rows: what was measured.
        square: operations a second of a large square product.
        groups: the packages that were compared with.
        absent: names of those that are not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    used = versions() | {name: number for group in groups for name, number in group.versions().items()}
    results: dict[str, Any] = {
        "machine": machine(lm),
        "versions": used,
        "cases": [row.shown() for row in rows],
        "square_gflops": _billions(square),
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(_page(results, rows, absent), encoding="utf-8")


def machine(lm: LM) -> str:
    """Return what the numbers were measured on."""
    device = torch.cuda.get_device_name(lm.device) if lm.device.type == "cuda" else str(lm.device)
    cores, threads = os.cpu_count(), torch.get_num_threads()
    return f"{platform.machine()}, {cores} cores, {threads} threads, device {device}, {lm.spec.id} in {lm.spec.dtype}"


def _page(results: dict[str, Any], rows: Sequence[Measured], absent: Sequence[str]) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"Machine: {results['machine']}; a product of {SQUARE} x {SQUARE} matrices: {results['square_gflops']:.3g} "
        f"GFLOP/s. Versions: {', '.join(f'{k} {v}' for k, v in results['versions'].items())}.",
        "",
        "Ratio: the peer's seconds over ours, medians of interleaved rounds, per sample. Token ratio: tokens that went "
        "through the embedding, padding included, the peer's over ours. Differs: max |difference| / max |score|. "
        "GFLOP/s: 2 x weights x rows of every linear module, over the seconds; in brackets its share of what the same "
        "products reach alone, measured in the same run. A peer NAME_cached reads the prompt once, by a cache made by "
        "hand.",
        "",
        "| case | peer | ours s | peer s | ratio | token ratio | differs | ours GFLOP/s | peer GFLOP/s | target "
        "| error |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.case} | {r.peer} | {_shown(r.ours_s)} | {_shown(r.peer_s)} | {_shown(r.ratio)} "
        f"| {_shown(r.token_ratio)} | {_small(r.max_rel_diff)} | {r.roof('ours')} | {r.roof('peer')} | {r.target} "
        f"| {(r.error or '').replace('|', '/')} |"
        for r in rows
    ]
    if absent:
        lines += ["", f"Not compared, as not installed: {', '.join(absent)} ({INSTALL})."]
    timed = dict.fromkeys((r.case, r.timed) for r in rows if r.timed)
    return "\n".join([*lines, "", "What was timed:", "", *(f"- {case}: {text}." for case, text in timed)]) + "\n"


def _billions(value: float | None) -> float | None:
    return None if value is None else value / 1e9


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
