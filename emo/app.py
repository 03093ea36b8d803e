"""Running one job: stages, result files, and what the console says about them."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from emo import console
from emo.config import Config
from emo.errors import UserError
from emo.figures import draw
from emo.geometry import geometry
from emo.pipeline import Job
from emo.report import write_report
from emo.stats import Estimate
from emo.store import peak_mb, versions
from emo.summary import HEADLINE, estimates, long_table

WARNING_ONE = (
    "delta_s is measured along the vectors that were added, so a large difference from random vectors is nearly "
    "guaranteed; logprob_margin, the replies and the projection at the last block are outcomes that the vectors do not define."
)
WARNING_SHUFFLED = (
    "With directions.baseline=neutral the shuffled control keeps what all emotions share (emotional against plain); "
    "steer minus shuffled is what is specific to the emotion."
)
WARNING_PPL = (
    "ppl_ratio compares replies under the unedited model; it falls again when replies loop, so read it with the degenerate share."
)


def run_job(config: Config, command: str = "python run.py") -> int:
    """Run one job and write its result folder; returns 0, or 1 where the job failed while running.

    Raises:
        UserError: the request was wrong; nothing was written.
    """
    console.setup(config.console)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    start = time.perf_counter()
    job = Job(config)
    folder = Path(config.paths.outputs) / config.name / job.result_address[:16]
    _check_writable(folder.parent)
    done = read_result(folder, job.result_address)
    if done is not None:
        console.say(f"already done: {folder}")
        _show(done, folder, config)
        return 0
    console.say(_headline(job))
    _warn_rules(job)
    try:
        result = _compute(job, folder, command, start)
    except (KeyboardInterrupt, UserError):
        raise
    except Exception as error:
        traceback.print_exc()
        _write_failed(folder, job, error, start)
        console.warn(f"failed ({type(error).__name__}); finished stages are kept: the same command continues from them")
        return 1
    _show(result, folder, config)
    return 0


def read_result(folder: Path, address: str) -> dict[str, Any] | None:
    """Return a finished result of ``address``, or None; a damaged one counts as missing, with one warning line."""
    path = folder / "result.json"
    if not path.is_file():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        return result if result["status"] == "done" and result["address"] == address else None
    except (ValueError, KeyError, TypeError):
        console.warn(f"{path} is damaged; computed again")
        return None


def _headline(job: Job) -> str:
    c, (extract, dev, test) = job.config, job.splits.scenarios()
    return (
        f"{c.model.name} x {c.dataset.name} ({extract} scenarios for directions, {dev} dev, {test} test) "
        f"x {c.intervention.kind} x {c.evaluator.name}"
    )


def _warn_rules(job: Job) -> None:
    if job.splits.broken_rules:
        counts = "; ".join(f"{name}: {count}" for name, count in job.splits.broken_rules.items())
        console.warn(f"{job.config.dataset.path}: scenarios outside the rules of the published protocol ({counts}); used as they are")


def _compute(job: Job, folder: Path, command: str, start: float) -> dict[str, Any]:
    c = job.config
    shape = geometry(job)
    frame = long_table(job)
    found = estimates(job, frame)
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
    try:
        _write_rows(scratch / "metrics.jsonl", [_metric_row(a, m, x) for a, ms in found.items() for m, x in ms.items()])
        _write_rows(scratch / "samples.jsonl", _sample_rows(job))
        (scratch / "geometry.json").write_text(json.dumps(shape, allow_nan=False))
        figures = draw(job, found, shape, scratch)
        result = {
            "status": "done",
            "address": job.result_address,
            "config": asdict(c),
            "arms": {arm: {m: x.to_dict() for m, x in ms.items()} for arm, ms in found.items()},
            "chosen": _chosen(job),
            "versions": {"python": platform.python_version(), **versions()},
            "wall_s": round(time.perf_counter() - start, 1),
            "peak_mb": peak_mb(),
        }
        (scratch / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
        write_report(
            scratch,
            title=f"{c.intervention.kind} on {c.model.name}, {c.dataset.name}",
            command=command,
            config_yaml=OmegaConf.to_yaml(OmegaConf.structured(c)),
            summary_rows=[{"arm": arm, **{m: ms.get(m) for m in _columns(found)}} for arm, ms in found.items()],
            columns=["arm", *_columns(found)],
            notes=_notes(job),
            figures=figures,
            samples=_report_samples(job),
            seconds=result["wall_s"],
            versions=result["versions"],
            facts=_facts(job),
        )
        if folder.exists():
            shutil.rmtree(folder)
        scratch.chmod(0o755)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return result


def _columns(found: dict[str, dict[str, Estimate]]) -> list[str]:
    return [m for m in HEADLINE if any(m in metrics for metrics in found.values())]


def _metric_row(arm: str, metric: str, x: Estimate) -> dict[str, Any]:
    name, *rest = metric.split("/")
    emotion, valence = (*rest, None, None)[:2]
    return {"arm": arm, "metric": name, "emotion": emotion, "valence": valence, **x.to_dict()}


def _sample_rows(job: Job) -> list[dict[str, Any]]:
    """Return one row per reply of every arm, with what was measured on it."""
    if job.config.evaluator.name == "projection":
        return []
    samples = {s.id: s._asdict() for s in job.splits.test}
    rows = []
    for arm, replies in job.replies.items():
        for reply, measured in zip(replies, job.damage[arm], strict=True):
            sample = samples[reply["sample"]]
            own = {k: v for k, v in reply.items() if k != "ids"}
            rows.append({"arm": arm, **own, **measured, **{k: sample[k] for k in ("theme", "valence", "scenario", "event")}})
    return rows


def _report_samples(job: Job) -> list[dict[str, Any]]:
    """Return ten test prompts, spread over the set and the emotions, under all arms (first seed of a control)."""
    if job.config.evaluator.name == "projection":
        return []
    test, names = job.splits.test, job.names
    count = min(10, len(test))
    picks = [int(i * len(test) / count) for i in range(count)]
    out = []
    for n, i in enumerate(picks):
        emotion = names[n % len(names)]
        replies = []
        for arm in job.arms:
            rows = zip(job.replies[arm.name], job.damage[arm.name], strict=True)
            for reply, measured in rows:
                if reply["sample"] == test[i].id and reply["emotion"] in (emotion, None) and reply["seed"] == 0:
                    replies.append({"arm": arm.name, "text": reply["reply"], "degenerate": measured["degenerate"]})
        out.append(
            {"scenario": test[i].scenario, "event": test[i].event, "valence": test[i].valence, "emotion": emotion, "replies": replies}
        )
    return out


def _chosen(job: Job) -> dict[str, Any] | None:
    if job.selection is None:
        return None
    choice = job.selection
    return {"alpha": choice.alpha, "layers": list(choice.layers), "feasible": choice.feasible, "tried": choice.tried}


def _facts(job: Job) -> dict[str, str]:
    c, (extract, dev, test) = job.config, job.splits.scenarios()
    steered = next((arm for arm in job.arms if arm.steered), None)
    facts = {
        "model": f"{c.model.name} ({c.model.id}, {job.spec.n_layers} blocks, {job.spec.dtype}, commit {job.spec.commit[:12]})",
        "dataset": f"{c.dataset.name}: {extract} scenarios for directions, {dev} for choosing strengths, {test} for every number below",
        "n": f"{len(job.splits.test)} test prompts for each of {len(job.names)} emotions",
        "elicitation": f"{c.elicitation.template}; directions against {c.directions.baseline}, at {c.directions.tokens}",
    }
    if steered is not None:
        how = "chosen on dev" if job.tuned else "as given"
        alphas = sorted({arm.alpha for arm in job.arms if arm.steered})
        facts["intervention"] = (
            f"{c.intervention.kind}, alpha {', '.join(f'{a:g}' for a in alphas)} ({steered.dose}), "
            f"blocks {steered.layers[0]}-{steered.layers[-1]} ({len(steered.layers)}), {how}"
        )
    return facts


def _notes(job: Job) -> list[str]:
    notes = [WARNING_ONE] if any(arm.steered for arm in job.arms) else []
    if job.config.evaluator.name != "projection":
        notes.append(WARNING_PPL)
    if job.config.directions.baseline == "neutral" and any(arm.kind == "shuffled" for arm in job.arms):
        notes.append(WARNING_SHUFFLED)
    if job.selection is not None and not job.selection.feasible:
        notes.append("No strength tried on dev stayed within the damage bounds; the least damaging one was used.")
    if job.splits.broken_rules:
        notes.append(f"Scenarios outside the rules of the published protocol: {job.splits.broken_rules}.")
    if job.spec.source == "embedded":
        notes.append("The model's weights were dequantised from a 4-bit file: close to, but not, the released ones.")
    return notes


def _show(result: dict[str, Any], folder: Path, config: Config) -> None:
    """Print the table of a result, where its files are, and what to type next."""
    arms = result["arms"]
    columns = [m for m in HEADLINE if any(m in metrics for metrics in arms.values())]
    rows = [[arm, *(_cell(metrics.get(m)) for m in columns)] for arm, metrics in arms.items()]
    n = max((x["n"] for metrics in arms.values() for x in metrics.values()), default=0)
    console.table(f"test: mean [95 % interval over scenarios], n = {n} prompt-emotion pairs", ["arm", *columns], rows)
    chosen = result["chosen"]
    if chosen:
        blocks = chosen["layers"]
        console.say(f"strength chosen on dev: alpha {chosen['alpha']:g}, blocks {blocks[0]}-{blocks[-1]}")
    console.say(f"report: {folder / 'report.html'}")
    console.say(f"took {result['wall_s']:.0f} s")
    console.say(f"next, try: {next_command(config, result)}")


def next_command(config: Config, result: dict[str, Any]) -> str:
    """Return the line that a researcher would type after this run."""
    chosen = result["chosen"]
    if chosen and config.intervention.kind == "steer":
        alphas = ",".join(f"{chosen['alpha'] * k:g}" for k in (0.5, 1, 2))
        blocks = chosen["layers"]
        return f"python run.py intervention.alpha=[{alphas}] intervention.layers={blocks[0]}-{blocks[-1]}   # a dose curve, on test"
    if config.intervention.kind in ("none", "prompt"):
        return "python run.py intervention=steer"
    return "python run.py intervention=prompt_steer   # does steering add to asking?"


def _cell(x: dict[str, Any] | None) -> Estimate | str:
    if x is None:
        return "-"
    lo, hi = x["ci"] or (None, None)
    return Estimate(x["value"], lo, hi, x["n"])


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    if rows:
        text = "\n".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
        path.write_text(text + "\n", encoding="utf-8")


def _write_failed(folder: Path, job: Job, error: Exception, start: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "status": "failed", "address": job.result_address, "config": asdict(job.config), "arms": {},
        "error": f"{type(error).__name__}: {error}", "versions": versions(), "wall_s": round(time.perf_counter() - start, 1),
        "peak_mb": peak_mb(),
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False), encoding="utf-8")


def _check_writable(folder: Path) -> None:
    parent = next(p for p in (folder, *folder.parents) if p.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise UserError(f"paths.outputs={folder.parent}: cannot be written; give another folder")
