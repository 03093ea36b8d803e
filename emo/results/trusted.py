"""What trusted labels say of a finished job: ``corrected.json`` in its folder, which `task=agreement` writes.

Nothing that was measured changes, in no file. Pages that are written later show what stands there beside their own
numbers, as long as the job still has the replies, and its own labels, that were corrected; else they say that it has
not, and how many of the labelled replies are gone.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from emo.core.console import warn
from emo.core.corrected import Corrected, rectified
from emo.core.frames import pd
from emo.core.metric_keys import metric_key
from emo.core.sealed import DamagedError, file_digest, read_sealed, seal
from emo.core.stats import Estimate
from emo.measure.people import text_id
from emo.results.corrected import Difference, Share, Tables, values_of
from emo.results.replies import SAMPLES, Replies, of_runs
from emo.results.values import JobValues

FILE = "corrected.json"


class Trusted(NamedTuple):
    """Labels that stand for the truth."""

    name: str  # whose
    labels: Mapping[str, str]  # {id of the text: label}, of replies of the runs
    lost: int  # labels of texts that no reply of the runs has


class Corrections(NamedTuple):
    """What is known of one job."""

    trusted: str  # whose labels stand for the truth
    called: str  # whose labels are corrected: the job's own
    labels: dict[str, str]  # trusted, by the id of the text, of this job's replies
    replies: int  # different ones of this job
    lost: int  # trusted labels that were given for texts of no run, when this was written
    gone: int  # of ``labels``: those of texts that this job no longer has
    current: bool  # the job's replies and its own labels are those that were corrected
    shares: list[Share]
    differences: list[Difference]
    lacking: dict[str, int]  # of all runs that were corrected together, see `emo.results.corrected.Tables`


class Rectified(NamedTuple):
    """One job with values that stand for its replies (`emo.core.corrected.rectified`)."""

    values: JobValues
    labelled: dict[str, int]  # arm -> different replies with a trusted label
    samples: dict[str, set[str]]  # arm -> samples with such a reply


def write_corrections(replies: Replies, found: Tables, trusted: Trusted, called: str) -> list[Path]:
    """Write `FILE` into the folder of every job, under whatever names it lies; returns the folders."""
    folders = []
    for job in replies.results:
        own = {reply.id for reply in replies.rows if reply.row["job"] == job}
        kept = {
            "trusted": trusted.name, "called": called, "replies": len(own), "lost": trusted.lost,
            "labels": {key: label for key, label in trusted.labels.items() if key in own},
            "shares": [_share(x) for x in found.shares if x.job == job],
            "differences": [_difference(x) for x in found.differences if x.job == job],
            "lacking": found.lacking,
        }  # fmt: skip
        for folder in replies.folders[job]:
            partial = folder / f".{FILE}"
            text = json.dumps(seal(kept | {"samples": file_digest(folder / SAMPLES)}), indent=1, ensure_ascii=False)
            partial.write_text(text + "\n", encoding="utf-8")
            os.replace(partial, folder / FILE)
            folders.append(folder)
    return folders


def read_corrections(folder: Path, result: Mapping[str, Any]) -> Corrections | None:
    """Return what is known of a finished job; None where nobody labelled its replies. A damaged file is none, and said.

    Args:
        folder: of the job.
        result: content of its result.json: the raw accuracies are its own.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        kept = read_sealed(path)
        shares = [_read_share(folder.name, row, result["arms"]) for row in kept["shares"]]
        differences = [
            Difference(folder.name, *(row[key] for key in ("arm", "against", "metric")),
                       *(Estimate.from_dict(row[key]) for key in ("raw", "powered")))
            for row in kept["differences"]
        ]  # fmt: skip
        same = (folder / SAMPLES).is_file() and file_digest(folder / SAMPLES) == kept["samples"]
        there = set(kept["labels"]) if same else _texts(folder)
        return Corrections(
            kept["trusted"], kept["called"], kept["labels"], kept["replies"], kept["lost"],
            len(set(kept["labels"]) - there), same, shares, differences, kept["lacking"],
        )  # fmt: skip
    except (DamagedError, KeyError, TypeError, ValueError) as error:
        warn(f"{path} is damaged ({error}), so that no page shows it; type the line of task=agreement again")
        return None


def of_jobs(results: Mapping[Path, Mapping[str, Any] | None]) -> dict[str, Corrections]:
    """Return what is known of the finished jobs among ``results`` (by folder), by the job's 16 digits."""
    done = {folder: result for folder, result in results.items() if result and result["status"] == "done"}
    found = {folder.name: read_corrections(folder, result) for folder, result in done.items()}
    return {job: own for job, own in found.items() if own is not None}


def rectified_job(values: JobValues, folder: Path, own: Corrections) -> Rectified:
    """Return a job whose accuracies are corrected reply by reply, so that they can be compared with another job's.

    Args:
        values: the job as comparisons see it.
        folder: of the job.
        own: what is known of it; its replies have to be those that were corrected.
    """
    replies = of_runs([folder])
    frame = values_of([(reply, reply.row["label"]) for reply in replies.rows], own.labels, replies.names)
    told = frame[frame["truth"].notna() & frame["value"].notna()]
    for _, part in frame.groupby(["arm", "metric"], sort=False):
        known = part["value"].to_numpy(dtype=float), part["truth"].to_numpy(dtype=float)
        frame.loc[part.index, "value"] = rectified(*known)
    table = frame.pivot_table(
        index=["sample", "emotion"], columns=["arm", "metric"], values="value", aggfunc="mean", sort=False
    )
    labelled = {str(arm): int(part["id"].nunique()) for arm, part in told.groupby("arm")}
    samples = {str(arm): set(part["sample"]) for arm, part in told.groupby("arm")}
    return Rectified(values._replace(table=table.astype(float)), labelled, samples)


def long_table(frame: pd.DataFrame, found: Mapping[str, Corrections]) -> pd.DataFrame:
    """Return the rows of a sweep's table that were corrected, with what they are then.

    Args:
        frame: the table (`emo.results.table.load_results`).
        found: by job; those that are not current are left out.

    Returns:
        Its columns, and ``powered, powered_lo, powered_hi`` (prediction-powered), ``confusion, confusion_lo,
        confusion_hi``, ``labelled, to_halve``; nan: not corrected. No rows where nothing was.
    """
    rows = [
        {"job": job, "arm": x.arm, "metric": metric_key(x.metric, *([x.emotion] if x.emotion else [])),
         **_ends("powered", x.powered.estimate), **_ends("confusion", x.confusion), "labelled": x.powered.labelled,
         "to_halve": x.powered.to_halve}
        for job, own in found.items() if own.current for x in own.shares
    ]  # fmt: skip
    columns = ["job", "arm", "metric", *_ends("powered", None), *_ends("confusion", None), "labelled", "to_halve"]
    made = pd.DataFrame(rows, columns=columns)
    for column in columns[3:]:
        made[column] = made[column].astype(float)
    return frame.merge(made, on=["job", "arm", "metric"], how="inner")


def _ends(name: str, x: Estimate | None) -> dict[str, float | None]:
    value, lo, hi = (None, None, None) if x is None else x[:3]
    return {name: value, f"{name}_lo": lo, f"{name}_hi": hi}


def _share(x: Share) -> dict[str, Any]:
    return {
        "arm": x.arm, "metric": x.metric, "emotion": x.emotion, "raw": x.raw.to_dict(),
        "powered": x.powered.estimate.to_dict(), "labelled": x.powered.labelled, "to_halve": x.powered.to_halve,
        "confusion": None if x.confusion is None else x.confusion.to_dict(),
    }  # fmt: skip


def _difference(x: Difference) -> dict[str, Any]:
    return {
        "arm": x.arm, "against": x.against, "metric": x.metric, "raw": x.raw.to_dict(), "powered": x.powered.to_dict()
    }  # fmt: skip


def _read_share(job: str, row: Mapping[str, Any], arms: Mapping[str, Any]) -> Share:
    key = metric_key(row["metric"], *([row["emotion"]] if row["emotion"] else []))
    raw = arms.get(row["arm"], {}).get(key) or row["raw"]  # to the last digit what the page's other tables show
    powered = Corrected(Estimate.from_dict(row["powered"]), row["labelled"], row["to_halve"])
    confusion = None if row["confusion"] is None else Estimate.from_dict(row["confusion"])
    return Share(job, row["arm"], row["metric"], row["emotion"], Estimate.from_dict(raw), powered, confusion)


def _texts(folder: Path) -> set[str]:
    """Return the ids of the replies that a job has now."""
    lines = (folder / SAMPLES).read_text(encoding="utf-8").split("\n") if (folder / SAMPLES).is_file() else []
    return {text_id(json.loads(line)["reply"]) for line in lines if line}
