"""Benchmarks: ours against a peer, same weights and prompts, agreement asserted before a ratio is printed.

``python bench/run.py [--model tiny] [--out FOLDER] [case ...]``; a run of every case on the default model writes
bench/results.json and bench/results.md, any other only what ``--out`` asks for. Exit code 1: a case failed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this file is started by its path

from bench import overhead, report  # noqa: E402
from bench.cases import CASES, PEERS, Case  # noqa: E402
from bench.inputs import DEFAULT, MODELS, SIZES, model  # noqa: E402
from bench.meters import counted, seconds  # noqa: E402
from bench.report import Measured  # noqa: E402
from emo.core import console  # noqa: E402
from emo.model.lm import LM  # noqa: E402

ROUNDS = 3
TOLERANCE = 1e-5
OVERHEAD = ("hooks", "memory")
NAMES = (*CASES, *OVERHEAD)


def compare(lm: LM, name: str, case: Case, peer: str, run: Callable[[], Any]) -> Measured:
    """Run both sides once for agreement and tokens, which warms them up, then take turns.

    Ratios are of medians per sample. Without agreement nothing is timed.
    """
    with counted(lm) as ours_tokens:
        ours = case.ours()
    with counted(lm) as peer_tokens:
        theirs = run()
    per_sample = case.ours_samples / case.peer_samples
    differs = case.difference(ours, theirs)
    measured = Measured(
        name, peer, case.timed, case.target,
        token_ratio=peer_tokens.count / ours_tokens.count * per_sample, max_rel_diff=differs,
    )  # fmt: skip
    if not differs <= TOLERANCE:  # nan is no agreement
        return measured._replace(error=f"ours and the peer differ by {differs:.1e}, more than {TOLERANCE:.0e}")
    times: dict[str, list[float]] = {"ours": [], "peer": []}
    for turn in range(ROUNDS):
        times["ours"].append(seconds(lm, case.ours) / case.ours_samples)
        if turn < case.peer_rounds:
            times["peer"].append(seconds(lm, run) / case.peer_samples)
    ours_s, peer_s = (statistics.median(times[side]) for side in ("ours", "peer"))
    return measured._replace(ours_s=ours_s, peer_s=peer_s, ratio=peer_s / ours_s)


def measure(name: str, lm: LM, chosen: str) -> list[Measured]:
    """Return the rows of one case, one per peer that runs it; what goes wrong is a row's error.

    Args:
        name: of the case.
        lm: the model.
        chosen: the model's name in `MODELS`.
    """
    size = SIZES[chosen]
    try:
        if name in OVERHEAD:
            found = overhead.hooks(lm, size, ROUNDS) if name == "hooks" else overhead.memory(chosen, size)
            return [Measured(name, "self", found.timed, found.target, found.ours_s, found.whole_s, found.ratio)]
        case = CASES[name](lm, size)
    except Exception as error:  # the other cases still run
        return [Measured(name, "self" if name in OVERHEAD else "naive", error=_said(error))]
    rows = []
    for peer, runs in PEERS.items():
        if name in runs:
            try:
                rows.append(compare(lm, name, case, peer, partial(runs[name], lm, *case.given)))
            except Exception as error:
                rows.append(Measured(name, peer, case.timed, case.target, error=_said(error)))
    return rows


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]


def main(argv: Sequence[str]) -> int:
    """Run the cases, print and write their results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__.partition("\n")[0])
    parser.add_argument("cases", nargs="*", metavar="case", help=f"one of {', '.join(NAMES)}; none: all of them")
    parser.add_argument("--model", choices=MODELS, default=DEFAULT)
    parser.add_argument("--out", type=Path, help="folder of results.json and results.md")
    asked = parser.parse_args(argv)
    if unknown := set(asked.cases) - set(NAMES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    console.setup("quiet")
    lm = model(asked.model)
    rows: list[Measured] = []
    for name in asked.cases or NAMES:
        for row in measure(name, lm, asked.model):
            print(row.line(), flush=True)
            rows.append(row)
    whole_run = not asked.cases and asked.model == DEFAULT
    if folder := asked.out or (ROOT / "bench" if whole_run else None):
        report.write(folder, lm, rows)
    return int(any(row.error for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
