"""What a finished job measured of its circuit, small enough to travel with it: arms, controls, intervals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from emo.core.errors import UserError
from emo.core.metrics import headline
from emo.find.circuit import Circuit
from emo.results.job_findings import job_findings
from emo.results.result_file import comparison_line
from emo.results.table import read_result


def measured(folder: str | Path, circuit: Circuit) -> dict[str, Any]:
    """Return the numbers of a finished job on a circuit; JSON values without a path.

    Args:
        folder: of the job.
        circuit: that it must be about.

    Returns:
        arms: arm -> metric of the main table -> {value, ci, n}; comparisons and findings: sentences; evaluator,
        dataset, pairs (of a prompt and an emotion); scale: lambda of the circuit, where it is one number.

    Raises:
        UserError: no finished job there, or one on another circuit.
    """
    folder = Path(folder).expanduser()
    result = read_result(folder)
    if result is None:
        raise UserError(f"result={folder}: no finished job in it; type the folder that a run printed")
    if Circuit.load(folder / "circuit").digest() != circuit.digest():
        raise UserError(f"result={folder}: the numbers of another circuit; give the folder of the job on this one")
    keys, given = headline(), result["config"]["intervention"]["scale"]
    chosen = result.get("chosen_scale") or {}
    scale = chosen.get("alpha", given)
    arms = {arm: {m: own[m] for m in keys if m in own} for arm, own in result["arms"].items()}
    return {
        "arms": arms,
        "pairs": max((x["n"] for own in arms.values() for x in own.values()), default=0),
        "dataset": result["config"]["dataset"]["name"],
        "evaluator": result["config"]["evaluator"]["name"],
        "comparisons": [comparison_line(row, result["smallest_p"]) for row in result["comparisons"]],
        "findings": job_findings(result),
        **({"scale": scale} if isinstance(scale, int | float) and result["config"]["circuit"]["dose"] == "raw" else {}),
    }
