"""Results as JSON rows and as a readable table, with the machine and versions that they hold for."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from emo.core.store import versions
from emo.model.lm import LM


class Measured(NamedTuple):
    """One row: a case against a peer. Seconds are per sample where a side runs several."""

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

    def line(self) -> str:
        """Return the row as one line for the terminal."""
        if self.error:
            return f"{self.case:22} {self.peer:6} error: {self.error}"
        return (
            f"{self.case:22} {self.peer:6} ratio {_shown(self.ratio)} (target {self.target}), "
            f"tokens {_shown(self.token_ratio)}, differs {_small(self.max_rel_diff)}"
        )


def write(folder: Path, lm: LM, rows: Sequence[Measured]) -> None:
    """Write results.json and results.md into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [{key: value for key, value in row._asdict().items() if key not in ("timed", "target")} for row in rows]
    results: dict[str, Any] = {"machine": machine(lm), "versions": versions(), "cases": shown}
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text(_page(results["machine"], rows), encoding="utf-8")


def machine(lm: LM) -> str:
    """Return what the numbers were measured on."""
    device = torch.cuda.get_device_name(lm.device) if lm.device.type == "cuda" else str(lm.device)
    cores, threads = os.cpu_count(), torch.get_num_threads()
    return f"{platform.machine()}, {cores} cores, {threads} threads, device {device}, {lm.spec.id} in {lm.spec.dtype}"


def _page(where: str, rows: Sequence[Measured]) -> str:
    lines = [
        "# Benchmarks",
        "",
        f"Machine: {where}. Versions: {', '.join(f'{k} {v}' for k, v in versions().items())}.",
        "",
        "Ratio: the peer's seconds over ours, medians of interleaved rounds, per sample. Token ratio: tokens that went "
        "through the embedding, padding included, the peer's over ours. Differs: max |difference| / max |score|.",
        "",
        "| case | peer | ours s | peer s | ratio | token ratio | differs | target | error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.case} | {r.peer} | {_shown(r.ours_s)} | {_shown(r.peer_s)} | {_shown(r.ratio)} "
        f"| {_shown(r.token_ratio)} | {_small(r.max_rel_diff)} | {r.target} | {(r.error or '').replace('|', '/')} |"
        for r in rows
    ]
    timed = dict.fromkeys((r.case, r.timed) for r in rows if r.timed)
    return "\n".join([*lines, "", "What was timed:", "", *(f"- {case}: {text}." for case, text in timed)]) + "\n"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
