"""Benchmarks: ours against peers, same weights and prompts, agreement asserted before a ratio is printed.

``python bench/run.py [--peers NAME,...] [--cases NAME,...] [--model tiny] [--out FOLDER]``; a run of every case and
peer on the default model writes bench/results.json and bench/results.md, any other only what ``--out`` asks for.
Exit code 1: a case failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this file is started by its path

from bench import overhead, report  # noqa: E402
from bench.cases import CASES  # noqa: E402
from bench.compare import ROUNDS, Side, compared, said  # noqa: E402
from bench.inputs import DEFAULT, MODELS, SIZES, model, weights_folder  # noqa: E402
from bench.peers.groups import GROUPS, INSTALL, Group  # noqa: E402
from bench.peers.groups import NAMES as PEERS  # noqa: E402
from bench.report import Measured  # noqa: E402
from emo.core import console  # noqa: E402
from emo.model.lm import LM  # noqa: E402

OVERHEAD = ("hooks", "memory")
NAMES = (*CASES, *OVERHEAD)


def own(name: str, lm: LM, chosen: str) -> Measured:
    """Return the row of a case that measures us alone; what goes wrong is its error."""
    try:
        size = SIZES[chosen]
        found = overhead.hooks(lm, size, ROUNDS) if name == "hooks" else overhead.memory(chosen, size)
    except Exception as error:  # the other cases still run
        return Measured(name, "self", error=said(error))
    return Measured(name, "self", found.timed, found.target, found.ours_s, found.whole_s, found.ratio)


def against(side: Side, name: str, group: Group, peers: Sequence[str], cases: Sequence[str]) -> list[Measured]:
    """Return the rows of one package: a row for each case and peer; what goes wrong is a row's error.

    Args:
        side: ours.
        name: of the group.
        group: the package.
        peers: which of its peers are asked for.
        cases: which cases are asked for.
    """
    wanted = [(case, [p for p in peers if case in group.cases[p]]) for case in cases]
    rows = [Measured(case, name, error=group.cannot[case]) for case in cases if case in group.cannot and name in peers]
    if not any(own for _, own in wanted):
        return rows
    try:
        if not group.installed:
            raise ModuleNotFoundError(f"{group.package} is not installed: type {INSTALL}")
        with weights_folder(side.lm) as folder:
            opened = group.opened(side.lm, folder)
    except Exception as error:  # another package may run all the same
        return rows + [Measured(case, peer, error=said(error)) for case, own in wanted for peer in own]
    for case, own in wanted:
        if own:
            runs = {peer: opened[peer][case] for peer in own}
            rows += compared(side, case, runs, package=group.package is not None)
    return rows


def _listed(names: Sequence[str], what: str, parser: argparse.ArgumentParser, allowed: Sequence[str]) -> list[str]:
    asked = [name for word in names for name in word.split(",") if name]
    if unknown := sorted(set(asked) - set(allowed)):
        parser.error(f"no {what} {', '.join(unknown)}; there are {', '.join(allowed)}")
    return [name for name in allowed if name in asked]


def main(argv: Sequence[str]) -> int:
    """Run the cases, print and write their results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description=__doc__.partition("\n")[0])
    parser.add_argument("case", nargs="*", help=f"one of {', '.join(NAMES)}; none: all of them")
    parser.add_argument("--cases", action="append", default=[], metavar="CASE,...", help="the same as a list")
    parser.add_argument(
        "--peers",
        action="append",
        default=[],
        metavar="PEER,...",
        help=f"of {', '.join(PEERS)}; none: all that are installed ({INSTALL} installs them)",
    )
    parser.add_argument("--model", choices=MODELS, default=DEFAULT)
    parser.add_argument("--out", type=Path, help="folder of results.json and results.md")
    asked = parser.parse_args(argv)
    cases = _listed([*asked.case, *asked.cases], "case", parser, NAMES)
    peers = _listed(asked.peers, "peer", parser, PEERS)
    console.setup("quiet")
    lm = model(asked.model)
    side, rows = Side(lm, SIZES[asked.model]), list[Measured]()
    used, absent = list[Group](), list[str]()

    def keep(found: list[Measured]) -> None:
        rows.extend(found)
        for row in found:
            print(row.line(), flush=True)

    for name, group in GROUPS.items():
        mine = [peer for peer in group.cases if peer in peers or not peers]
        if mine and not (peers or group.installed):
            print(f"{name}: not compared, as it is not installed: type {INSTALL}", flush=True)
            absent.append(name)
        elif mine:
            used.append(group)
            keep(against(side, name, group, mine, cases or NAMES))
    if not peers:
        for name in OVERHEAD:
            if name in (cases or NAMES):
                keep([own(name, lm, asked.model)])
    whole_run = not cases and not peers and asked.model == DEFAULT
    if folder := asked.out or (ROOT / "bench" if whole_run else None):
        rows.sort(key=lambda row: NAMES.index(row.case))
        report.write(folder, lm, rows, side.roofline.square(), used, absent)
    return int(any(row.failed for row in rows))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
