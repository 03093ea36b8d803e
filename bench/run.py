"""Benchmarks: ours against a peer, same weights and prompts, agreement asserted before a ratio is printed.

Writes bench/results.json and bench/results.md. ``python bench/run.py [case ...]``
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench import naive
from emo import console
from emo.capture import states
from emo.config import DatasetConfig, ElicitationConfig, ModelConfig
from emo.data import load_splits
from emo.generate import generate
from emo.models.lm import LM
from emo.models.load import describe, load
from emo.passes import Row
from emo.prefixes import Text
from emo.prompts import prompt_ids
from emo.store import versions

ROUNDS = 3
MODEL = ModelConfig(name="smollm2_135m", source="embedded", id="HuggingFaceTB/SmolLM2-135M-Instruct")
EMOTIONS = ("anger", "sadness", "happiness", "fear", "surprise", "disgust")


class Case(NamedTuple):
    """Two ways to the same numbers."""

    ours: Callable[[], Any]
    peer: Callable[[], Any]
    difference: Callable[[Any, Any], float]  # max |difference| / max |score|
    token_ratio: float  # token-forwards of the peer / ours, counted from the lengths


def _prompts(lm: LM, template: str) -> list[list[int]]:
    samples = load_splits(DatasetConfig(name="sev_test"), 0).test[:6]
    asked = ElicitationConfig(template=template)
    return [ids for emotion in EMOTIONS for ids in prompt_ids(lm, asked, samples, emotion)]


def generation(lm: LM) -> Case:
    """24 replies of up to 16 tokens to 6 prompts (four rows each), unedited."""
    unique = _prompts(lm, "paper")[:6]
    rows, limit = [Row(i) for i in range(6) for _ in range(4)], 16

    def ours() -> list[list[int]]:
        lm.trunks.clear()
        return generate(lm, unique, rows, [], limit, 64, "ours")

    def peer() -> list[list[int]]:
        return naive.greedy(lm, [unique[row.prompt] for row in rows], limit)

    shared = sum(map(len, unique)) + len(rows) * limit
    alone = sum(len(unique[row.prompt]) + limit for row in rows)
    return Case(ours, peer, lambda a, b: float(sum(x != y for x, y in zip(a, b, strict=True))), alone / shared)


def capture(lm: LM) -> Case:
    """Last-token states of 36 few-shot prompts."""
    prompts = _prompts(lm, "few_shot")

    def ours() -> torch.Tensor:
        found = dict(states(lm, [Text(ids) for ids in prompts], 64, "ours"))
        return torch.stack([found[i] for i in range(len(prompts))])

    def gap(a: torch.Tensor, b: torch.Tensor) -> float:
        return float((a - b).abs().max() / b.abs().max())

    return Case(ours, lambda: naive.last_states(lm, prompts), gap, 1.0)


CASES: dict[str, Callable[[LM], Case]] = {"generation": generation, "capture": capture}


def main(names: list[str]) -> None:
    """Run the cases and write their results."""
    console.setup("quiet")
    lm = load(describe(MODEL, "auto", "auto"))
    rows = []
    for name in names or list(CASES):
        case = CASES[name](lm)
        error = case.difference(case.ours(), case.peer())  # warms up both
        assert error <= 1e-5, f"{name}: ours and the peer differ by {error:.1e}"
        ours, peer = [], []
        for _ in range(ROUNDS):
            for times, run in ((ours, case.ours), (peer, case.peer)):
                start = time.perf_counter()
                run()
                times.append(time.perf_counter() - start)
        ratio = statistics.median(p / o for p, o in zip(peer, ours, strict=True))
        row = {
            "case": name, "peer": "naive", "ours_s": statistics.median(ours), "peer_s": statistics.median(peer),
            "ratio": ratio, "token_ratio": case.token_ratio, "max_rel_diff": error, "error": None,
        }  # fmt: skip
        rows.append(row)
        print(
            f"{name:12} ours {row['ours_s']:.2f} s, naive {row['peer_s']:.2f} s, ratio {ratio:.1f}, differs {error:.1e}"
        )
    machine = f"{platform.machine()}, {os.cpu_count()} cores, device {lm.device}"
    here = Path(__file__).resolve().parent
    (here / "results.json").write_text(
        json.dumps({"machine": machine, "versions": versions(), "cases": rows}, indent=1)
    )
    lines = ["| case | ours s | naive s | ratio | token ratio | max rel diff |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {r['case']} | {r['ours_s']:.2f} | {r['peer_s']:.2f} | {r['ratio']:.1f} | {r['token_ratio']:.2f} "
        f"| {r['max_rel_diff']:.1e} |"
        for r in rows
    ]
    (here / "results.md").write_text(f"{machine}; {versions()}\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
