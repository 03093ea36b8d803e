"""The files of one result: found, copied from another name, written whole or not at all, sealed."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from emo.config.choices import total_budget
from emo.core.disk import writing
from emo.core.metric_keys import metric_parts
from emo.core.sealed import file_digests, seal
from emo.core.stats import Estimate
from emo.core.store import peak_mb, versions, writable
from emo.measure import unjudged
from emo.pipeline.finished import described
from emo.pipeline.jobs import AnyJob
from emo.pipeline.labelled import ClassJob
from emo.results import p_values
from emo.results.table import read_result
from emo.results.terms import terms_line
from emo.results.trusted import FILE as TRUSTED

RESULT = "result.json"


def finish(scratch: Path, folder: Path, result: dict[str, Any], job: AnyJob) -> None:
    """Write result.json with the artifacts behind it and the digests of all files beside it; publish the folder."""
    result["artifacts"] = sorted(job.store.used)
    write_json(scratch / RESULT, result | {"files": file_digests(scratch)})
    publish(scratch, folder, result["address"])


def publish(scratch: Path, folder: Path, address: str) -> None:
    """Rename a complete ``scratch`` to ``folder``; where another process was faster, its own result stays."""
    found = read_result(folder, address, whole=True)
    if found is not None and not unjudged.total(found):
        return
    if (folder / TRUSTED).is_file():  # people's work: pages say whether it is of the replies that are there now
        shutil.copy2(folder / TRUSTED, scratch / TRUSTED)
    shutil.rmtree(folder, ignore_errors=True)  # failed, damaged or of another address
    scratch.chmod(0o755)
    try:
        scratch.rename(folder)
    except OSError:
        if read_result(folder, address, whole=True) is None:
            raise


def find_result(outputs: Path, name: str, address: str, *, copy: bool = True) -> dict[str, Any] | None:
    """Return the finished result of ``address``: of ``outputs/name``, or copied there from another name.

    ``copy=False`` only looks. One with unjudged replies is none: running the job again asks for these only.

    Raises:
        UserError: it cannot be copied there.
        DiskFullError: there is no room for the copy.
    """
    folder = outputs / name / address[:16]
    own = read_result(folder, address, whole=True)
    if own is not None and not unjudged.total(own):
        return own
    for other in sorted(outputs.glob(f"*/{address[:16]}")):
        result = read_result(other, address, whole=True) if other != folder else None
        if result is None or unjudged.total(result):
            continue
        if not copy:
            return result
        writable(folder)
        with writing(folder, f"the copy of {other}"):
            _copy(other, folder, address)
        return result
    return None


def _copy(other: Path, folder: Path, address: str) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        # What one name logged to W&B is no business of another.
        shutil.copytree(other, scratch, dirs_exist_ok=True, ignore=shutil.ignore_patterns("wandb.json"))
        publish(scratch, folder, address)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def comparison_line(row: dict[str, Any], least: float | None) -> str:
    """Return one paired comparison in words.

    Args:
        row: of ``comparisons``.
        least: the smallest p that the scenarios allow: above 0.05 none can be read, so none is printed.
    """
    if row["value"] is None:
        return f"{row['arm']} - {row['against']}, {row['metric']}: not measured"
    interval = "no interval" if row["ci"] is None else f"[{row['ci'][0]:.2f}, {row['ci'][1]:.2f}]"
    if row["p_holm"] is None:
        p = "p not measured"
    elif (shown := p_values.shown(row["p_holm"], least)) is None:
        p = p_values.TOO_FEW
    else:
        p = f"{p_values.told(shown)} (sign flips, Holm)"
    return f"{row['arm']} - {row['against']}, {row['metric']}: {row['value']:.2f} {interval}, {p}{terms_line(row)}"


def shown_p(rows: Sequence[dict[str, Any]], least: float | None) -> list[dict[str, Any]]:
    """Return comparisons as figures show them: without p where none can be small, as `comparison_line` says it."""
    return [row | {"p_holm": p_values.shown(row["p_holm"], least)} for row in rows]


def write_failed(job: AnyJob, folder: Path, error: Exception, start: float) -> None:
    """Write the result.json of a job that failed while running; a finished one (with unjudged replies) stays."""
    if read_result(folder, job.result_address) is not None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    result = header("failed", job, start) | {"arms": {}, "error": f"{type(error).__name__}: {error}"}
    result["artifacts"] = sorted(job.store.used)
    write_json(folder / RESULT, result | {"files": {}})


def header(status: str, job: AnyJob, start: float) -> dict[str, Any]:
    """Return what every result.json begins with: state, address, configuration, versions, time."""
    return {
        "status": status,
        "address": job.result_address,
        "config": asdict(job.config),
        "model_family": job.spec.family,
        "model_commit": job.spec.weights,
        "directions": None if isinstance(job, ClassJob) else job.directions_address,
        "dtype": job.spec.dtype,  # what dtype=auto came to
        "model": described(job.spec),
        "parameters": None if status == "failed" else job.parameters,  # it may be the model that cannot be had
        "budget": _budget(job),
        "versions": {"python": platform.python_version(), **versions()},
        "wall_s": round(time.perf_counter() - start, 1),
        "peak_mb": peak_mb(),
    }


def _budget(job: AnyJob) -> int | None:
    """Return K, the units of an assembled circuit, also where it was typed as ``10x``; None for other jobs."""
    if isinstance(job, ClassJob):
        return None
    assembled = job.has_circuit and job.config.circuit.path is None
    return total_budget(job.config.circuit.budget, len(job.circuit_layers)) if assembled else None


def metric_row(arm: str, metric: str, x: Estimate) -> dict[str, Any]:
    """Return one line of metrics.jsonl; the parts of a metric's name become fields."""
    return {"arm": arm, **metric_parts(metric)._asdict(), **x.to_dict()}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as JSONL; nothing where there are none."""
    if rows:
        text = "\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
        path.write_text(text + "\n", encoding="utf-8")


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write one sealed JSON file."""
    path.write_text(json.dumps(seal(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
