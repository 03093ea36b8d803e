"""Running one job from the command line: what is said before, while and after it runs."""

from __future__ import annotations

import contextlib
import logging
import shlex
import statistics
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from emo.cli.check_job import check_job
from emo.cli.job_clock import JobClock
from emo.cli.plan import place
from emo.config.choices import MINILM
from emo.config.interventions import kind_of
from emo.config.kinds import on_classes
from emo.config.schema import Config
from emo.core import console, stopping
from emo.core.console import format_estimate
from emo.core.disk import DiskFullError, writing
from emo.core.errors import UserError
from emo.core.metrics import headline, own_metrics
from emo.core.stats import Estimate
from emo.data.labelled import remarks
from emo.data.scenarios import joined_line
from emo.measure import unjudged
from emo.pipeline import ranking_check
from emo.pipeline.context_length import check_length
from emo.pipeline.jobs import AnyJob, make_job
from emo.pipeline.labelled import ClassJob
from emo.report.class_page import write_result as write_classes
from emo.report.first_look import FILE as PICTURE
from emo.report.job_page import write_result
from emo.report.remarks import language_line, stand_in_line
from emo.report.sweep_tracking import track_point
from emo.report.titles import model_title
from emo.report.unit_page import ratio_text
from emo.results import equal_divergence, p_values
from emo.results.arm_order import base_name
from emo.results.exploded import lines as exploded_lines
from emo.results.result_file import comparison_line, find_result, write_failed
from emo.results.table import read_result

CONSOLE_COLUMNS = 9  # of the headline; the report has all
CONSOLE_OWN = 2  # beside them, of a user's own
COMPARED = 10  # more comparisons are not printed


def run_job(
    config: Config,
    command: str = "python run.py",
    *,
    in_sweep: bool = False,
    job: AnyJob | None = None,
    answer: bool = True,
) -> int:
    """Run one job and write its result folder; returns 0, or 1 where the job failed while running.

    Args:
        config: the job.
        command: the line that starts it again.
        in_sweep: it is one of several: less is printed, and a failure of any kind is kept for the sweep's list.
        job: of this configuration, where it has been made.
        answer: in quiet mode, print where the result is.

    Raises:
        UserError: the request was wrong; nothing was written.
    """
    console.setup(config.console)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    start = time.perf_counter()
    job = job or make_job(config)
    check_job(job)
    outputs = Path(config.paths.outputs)
    folder = outputs / config.name / job.result_address[:16]
    if in_sweep:
        console.say(place(folder.parent, job.result_address))
    result = find_result(outputs, config.name, job.result_address)
    if result is not None:
        console.say(f"already done (took {result['wall_s']:.0f} s when it ran): {folder}")
    else:
        if not in_sweep:  # of a sweep, all jobs were checked before the first one began
            check_length(job)
            _introduce(job)
        unanswered = unjudged.total(read_result(folder, job.result_address))
        if unanswered:
            console.say(f"done but for {unanswered} unjudged replies: only these are asked for again")
        try:
            with writing(folder, "its result"), console.timed(JobClock(config)):
                if isinstance(job, ClassJob):
                    result = write_classes(job, folder, command, start)
                else:
                    result = write_result(job, folder, command, start)
        except Exception as error:
            stopping.check()  # a library may have made an error of its own of the signal
            if isinstance(error, UserError) and not in_sweep:
                raise
            return _failed(job, folder, error, start, command)
    if config.tracker.name == "wandb":
        track_point(folder, config)
    if in_sweep:
        console.say(_short(result))
    else:
        _show(result, folder, config, command)
        if answer:
            console.answer(folder)
    return 0


def _failed(job: AnyJob, folder: Path, error: Exception, start: float, command: str) -> int:
    """Report a job that failed and keep what is known of it; a user's error or a full disk needs no traceback."""
    if not isinstance(error, UserError | DiskFullError):
        traceback.print_exc()
    with contextlib.suppress(OSError, DiskFullError):  # on a full disk nothing more can be written
        write_failed(job, folder, error, start)
    text = " ".join(str(error).split())
    if isinstance(error, DiskFullError):
        console.warn(f"failed: {text}: {command}")
        return 1
    text = text[:300]
    console.warn(f"failed ({type(error).__name__}: {text}); what is finished is kept: {command} continues from there")
    return 1


def _introduce(job: AnyJob) -> None:
    c = job.config
    if isinstance(job, ClassJob):
        train, dev, test = map(len, job.splits[:3])
        console.say(
            f"{model_title(c.model)} x {c.dataset.name} ({train} texts for neurons, {dev} dev, {test} test; "
            f"{', '.join(job.names)}) x {c.intervention.kind} x {c.evaluator.name}"
        )
        for line in remarks(job.splits):
            console.say(line)
        return
    extract, dev, test = job.splits.scenarios()
    console.say(
        f"{model_title(c.model)} x {c.dataset.name} ({extract} scenarios for directions, {dev} dev, {test} test) "
        f"x {c.intervention.kind} x {c.evaluator.name}"
    )
    if line := joined_line(job.splits):
        console.say(line)
    if job.stand_ins and c.evaluator.name != "projection":
        console.warn(stand_in_line(job))
    if job.splits.broken_rules:
        counts = "; ".join(f"{name}: {count}" for name, count in job.splits.broken_rules.items())
        where = c.dataset.path or c.dataset.test_path
        console.warn(f"{where}: scenarios outside the rules of the protocol ({counts}); used as they are")


def _show(result: dict[str, Any], folder: Path, config: Config, command: str) -> None:
    """Print the table of a result, where its files are, and what to type next."""
    arms, kind = result["arms"], config.intervention.kind
    listed = headline(None if on_classes(config) else CONSOLE_COLUMNS)
    columns = [m for m in listed if any(m in metrics for metrics in arms.values())]
    many = [m for m in columns if m in own_metrics()][CONSOLE_OWN:]
    columns = [m for m in columns if m not in many]
    rows = [[arm, *(cell(metrics.get(m)) for m in columns)] for arm, metrics in arms.items()]
    n = max((x["n"] for metrics in arms.values() for x in metrics.values()), default=0)
    over, pairs = ("groups", "text-class") if on_classes(config) else ("scenarios", "prompt-emotion")
    title = f"test: mean [95 % interval over {over}], n = {n} {pairs} pairs"
    if columns:
        console.table(title, ["arm", *columns], rows)
    clusters = result.get("clusters", {})
    if clusters.get("too_few"):
        console.say(f"{clusters['too_few']}: type a larger dataset.limit, or give more data")
    if clusters and clusters["distinct"] < clusters["given"]:
        console.note(f"{clusters['given']} {over}, {clusters['distinct']} different: nearly equal texts count as one")
    for line in exploded_lines(result.get("exploded", {})):
        console.warn(line)
    for line in result.get("verdicts", []):
        console.warn(line)
    encoder = result["config"]["evaluator"].get("encoder", MINILM)
    for remark in (unjudged.line_of(result), language_line(result.get("languages") or {}, encoder)):
        if remark:
            console.warn(remark)
    if result.get("ratios"):
        _show_ratios(result["ratios"])
    if result.get("ranking_check"):
        units = kind.partition("_")[2]
        console.say(f"ranking check: {ranking_check.line(result['ranking_check'], units)}")
    for row in result["comparisons"] if len(result["comparisons"]) <= COMPARED else []:
        console.say(comparison_line(row, result["smallest_p"]))
    if len(result["comparisons"]) > COMPARED:
        console.say(f"{len(result['comparisons'])} paired comparisons: in the report")
    least = result["smallest_p"]
    if result["comparisons"] and least is not None and p_values.unreadable(least):
        console.note(
            f"so few {over} cannot give p below {p_values.bound(least)} after Holm: type a larger dataset.limit"
        )
    for what, chosen in (("alpha", result["chosen"]), ("scale", result.get("chosen_scale"))):
        if chosen:
            console.say(f"{what} chosen on dev ({chosen['metric']}): {_chosen_line(chosen, config.emotions.names)}")
    if (folder / PICTURE).is_file():
        console.say(f"see first: {folder / PICTURE}")
    for line in equal_divergence.lines(result.get("divergence") or {}):
        console.say(line)
    console.say(f"report: {folder / 'report.html'}")
    console.say(f"took {result['wall_s']:.0f} s")
    console.say(f"next, try: {next_command(command, config, result)}")


def _show_ratios(rows: list[dict[str, Any]]) -> None:
    """Print target / control of delta-s, all emotions together: a line per target, a column per kind of control."""
    whole = [row for row in rows if row["emotion"] is None]
    controls = list(dict.fromkeys(base_name(row["against"]) for row in whole))
    table = {(row["arm"], base_name(row["against"])): ratio_text(row) for row in whole}
    lines = [[arm, *(table.get((arm, c), "") for c in controls)] for arm in dict.fromkeys(row["arm"] for row in whole)]
    console.table("delta_s: target / control [95 % interval]", ["arm", *controls], lines)


def next_command(command: str, config: Config, result: dict[str, Any]) -> str:
    """Return the line that a researcher would type after this one: what was typed, with the next step in place."""
    chosen, kind = result["chosen"], kind_of(config)
    if chosen and kind.name == "steer":
        middle = chosen["alpha"] if not isinstance(chosen["alpha"], list) else statistics.median(chosen["alpha"])
        alphas = ",".join(f"{middle * k:g}" for k in (0.5, 1, 2))
        blocks = chosen["layers"]
        change = [f"intervention.alpha=[{alphas}]", f"intervention.layers={blocks[0]}-{blocks[-1]}"]
    elif kind.edits in ("neurons", "heads") and config.evaluator.name == "projection":
        change = ["evaluator=classifier"]
    elif on_classes(config) and kind.edits == "nothing":
        change = ["intervention=mask"]
    else:
        change = [f"intervention={kind.then}" if kind.then else "elicitation=persona"]
    keys = {part.partition("=")[0] for part in change}
    kept = [part for part in shlex.split(command) if part.partition("=")[0] not in keys]
    return shlex.join([*kept, *change])  # brackets quoted: some shells expand them


def cell(x: dict[str, Any] | None) -> Estimate:
    """Return a value of result.json as an estimate, empty where nothing was measured."""
    if x is None:
        return Estimate(None, None, None, 0)
    lo, hi = x["ci"] or (None, None)
    return Estimate(x["value"], lo, hi, x["n"])


def _short(result: dict[str, Any]) -> str:
    """Return one line for a job of a sweep: every arm's value of the first metric that was measured."""
    arms = result["arms"]
    metric = next((m for m in headline()[1:] if any(m in metrics for metrics in arms.values())), None)
    values = ", ".join(f"{arm} {format_estimate(cell(m[metric]))}" for arm, m in arms.items() if metric in m)
    left_out = f", {n} unjudged replies in no mean" if (n := unjudged.total(result)) else ""
    return f"  {metric}: {values}{left_out} ({result['wall_s']:.0f} s)"


def _chosen_line(chosen: dict[str, Any], names: Sequence[str]) -> str:
    several = isinstance(chosen["alpha"], list)
    each = ", ".join(f"{e} {a:g}" for e, a in zip(names, chosen["alpha"], strict=True)) if several else ""
    blocks = chosen["layers"]
    return f"{each or format(chosen['alpha'], 'g')}, blocks {blocks[0]}-{blocks[-1]}"
