"""One case against the peers of one package: agreement first, then turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from bench.cases import CASES, Case
from bench.inputs import Size
from bench.meters import Work, counted, seconds
from bench.report import Measured
from bench.roofline import Roofline
from emo.model.lm import LM

ROUNDS = 3
TOLERANCE = 1e-5
CACHED = "_cached"  # how a peer with a cache made by hand is called
QUICK = 5.0  # seconds: what takes less is run in every round, whatever `Case.peer_rounds` says


class Ran(NamedTuple):
    """What a case gave us, and what it took."""

    case: Case
    found: Any
    work: Work


class Side:
    """Ours: every case is built and run once before it is timed, whatever the number of peers."""

    def __init__(self, lm: LM, size: Size) -> None:
        self.lm, self.size, self.roofline = lm, size, Roofline(lm)
        self._ran: dict[str, Ran] = {}

    def ran(self, name: str) -> Ran:
        """Return case ``name``, run once; raises what it raises."""
        if name not in self._ran:
            case = CASES[name](self.lm, self.size)
            with counted(self.lm) as work:
                found = case.ours()
            self._ran[name] = Ran(case, found, work)
        return self._ran[name]


def compared(side: Side, name: str, runs: Mapping[str, Callable[..., Any]], package: bool) -> list[Measured]:
    """Run every peer once for agreement and tokens, which warms it up, then take turns: ours, each peer, ours ...

    Ratios are of medians per sample. A peer without agreement, or one that fails, is not timed; ``package``: a peer is
    handed the part of the case that is meant for packages, unless it has a cache and is quick.
    """
    try:
        whole, found, work = side.ran(name)
    except Exception as error:  # the other cases still run
        return [Measured(name, peer, error=said(error)) for peer in runs]
    cached = {peer for peer in runs if peer.endswith(CACHED)}
    handed = {peer: whole.for_package() if package and peer not in cached else whole for peer in runs}
    # A target is against the peer as its users write it.
    rows = {p: Measured(name, p, case.timed, "" if p in cached else case.target) for p, case in handed.items()}
    rounds, times = dict[str, int](), {who: list[float]() for who in ("ours", *runs)}
    for peer, run in runs.items():
        try:
            rows[peer], took = agreeing(side, rows[peer], handed[peer], found, work, run)
        except Exception as error:
            rows[peer] = rows[peer]._replace(error=said(error))
        else:
            rounds[peer] = ROUNDS if took < QUICK else handed[peer].peer_rounds
    for turn in range(ROUNDS):
        if all(row.error for row in rows.values()):
            break
        times["ours"].append(seconds(side.lm, whole.ours) / whole.ours_samples)
        for peer in [peer for peer, row in rows.items() if not row.error and turn < rounds[peer]]:
            try:
                taken = seconds(side.lm, partial(runs[peer], *handed[peer].given))
                times[peer].append(taken / handed[peer].peer_samples)
            except Exception as error:
                rows[peer] = rows[peer]._replace(error=said(error))
    if not times["ours"]:
        return list(rows.values())
    ours_s = statistics.median(times["ours"])
    return [row if row.error else row.took(ours_s, statistics.median(times[peer])) for peer, row in rows.items()]


def agreeing(
    side: Side, row: Measured, case: Case, found: Any, work: Work, run: Callable[..., Any]
) -> tuple[Measured, float]:
    """Run a peer once; returns its row with agreement, tokens and operations, and the seconds that it took.

    Args:
        side: ours.
        row: of the peer, so far.
        case: as it is handed to the peer.
        found: ours.
        work: what ours took.
        run: the peer.
    """
    theirs: list[Any] = []
    with counted(side.lm) as peer_work:
        took = seconds(side.lm, lambda: theirs.append(run(*case.given)))
    differs = case.difference(found, theirs[0])
    error = None
    if not differs <= TOLERANCE:  # nan is no agreement
        error = f"ours and the peer differ by {differs:.1e}, more than {TOLERANCE:.0e}"
    per_sample = case.ours_samples / case.peer_samples
    return row._replace(
        token_ratio=peer_work.tokens / work.tokens * per_sample,
        max_rel_diff=differs,
        error=error,
        ours_operations=work.operations / case.ours_samples,
        peer_operations=peer_work.operations / case.peer_samples,
        ours_attainable=None if error else side.roofline.attainable(work.products),
        peer_attainable=None if error else side.roofline.attainable(peer_work.products),
    ), took


def said(error: Exception) -> str:
    """Return what an error says, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
