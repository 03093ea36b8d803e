"""Tasks that run no job: what is done (`status`), tables from disk (`summarize`), downloads and fits (`prefetch`).

`report` makes a workspace and a report in W&B; `judge` labels finished runs with another evaluator; `agreement`
compares labellers, people among them, for whom `label_sheet` draws replies; `compare` says how alike two circuits are;
`gc` frees what no result needs; `verify` recomputes results; `extract` writes what a job finds for other programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from emo.cli import forecast, plan
from emo.cli.launch.status import standings, time_left
from emo.config import error_text as cli
from emo.config.choices import BUILDS
from emo.config.emotions import outside_six
from emo.config.kinds import on_classes
from emo.config.schema import RUNTIME_KEYS, Config
from emo.core import console
from emo.core.errors import UserError, refuse
from emo.core.store import Store
from emo.data.labelled import load_items
from emo.data.scenarios import load_splits
from emo.find.circuit_hub import on_hub
from emo.find.circuit_similarity import find_circuit, show_comparison
from emo.measure import unjudged
from emo.measure.classifier import ClassifierEvaluator
from emo.measure.encoder import encoder_folder
from emo.measure.labels import EVALUATORS, evaluator_of
from emo.model.load import describe, fetch
from emo.pipeline.finished import FinishedJob
from emo.report import sweep_tracking, tracking_access
from emo.report.charts.engine import engine
from emo.report.sweep_files import summarize_sweep
from emo.results.result_file import find_result
from emo.results.sweep_folder import alone, lists
from emo.results.table import SWEEP_FILE, job_folders, label, name_folder, read_any, read_result, read_sweep

# Keys of the evaluator that say how replies are measured, not who labels them: a finished run keeps its own.
ALWAYS_SAID = ("done", "failed", "missing")  # states of jobs; others where there are some
MEASURING = ("bootstrap", "kl_tokens", "min_distinct3", "min_distinct4", "max_nonwords")


def run_task(config: Config, typed: Sequence[str] = ()) -> int:
    """Run a task other than ``run``; returns the exit code. ``typed``: words of the command line.

    Raises:
        UserError: no finished runs where ``runs`` says, or something that a task needs is not there.
    """
    console.setup(config.console)
    if config.task == "plan":
        words = [word for word in typed if word != "task=plan"]
        forecast.show(plan.make([(words, config)], cli.command(words)), None, cli.command(words))
    elif config.task in BUILDS:
        from emo.cli.build import build_texts

        return build_texts(config, typed)
    elif config.task == "prefetch":
        prefetch([config])
    elif config.task == "extract":
        from emo.cli.extract import extract

        extract([(config, cli.command([word for word in typed if word != "task=extract"]))])
    elif config.task == "judge":
        return judge(roots(config), config)
    elif config.task == "compare":
        compare(config)
    elif config.task in ("agreement", "label_sheet"):
        from emo.cli.labelling import agree, make_sheet

        folders = None if config.agreement.file else roots(config)
        return agree(config, folders) if config.task == "agreement" else make_sheet(config, folders)
    elif config.task == "gc":
        from emo.cli.garbage import collect

        if config.runs is not None:
            roots(config)  # a folder that is misspelt would not protect what its results need
        collect(config)
    elif config.task == "verify":
        from emo.cli.recompute import verify

        if config.runs is None:
            raise UserError("task=verify: which results? type runs=FOLDER of a job or a sweep, e.g. runs=outputs/run")
        return verify(roots(config), config)
    elif config.task == "report":
        report(roots(config), config)
    elif config.task == "charts":
        charts(config)
    elif config.task == "status":
        for root in with_earlier(roots(config)):
            show_status(root, read_sweep(root))
    else:
        summarize(with_earlier(roots(config)), config)
    return 0


def roots(config: Config) -> list[Path]:
    """Return the folders that ``runs`` names, or all under ``paths.outputs`` that hold results.

    Raises:
        UserError: there are none.
    """
    given = config.runs
    if given is None:
        outputs = Path(config.paths.outputs)
        found = {path.parent for path in outputs.glob(f"*/{SWEEP_FILE}")}
        found |= {path.parent.parent for path in outputs.glob("*/*/result.json")}
        if not found:
            raise UserError(f"{outputs}: no results in it; type python run.py, or runs=FOLDER")
        return sorted(found)
    folders = [Path(str(item)).expanduser() for item in (given if isinstance(given, list) else [given])]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"runs={folder}: no such folder (looked from {Path.cwd()}); type e.g. runs=outputs/alpha")
    return folders


def with_earlier(folders: Sequence[Path]) -> list[Path]:
    """Return the folders, each followed by those of the other sweeps of its name."""
    return list(dict.fromkeys(path for root in folders for path in (root, *lists(root))))


def show_status(root: Path, sweep: dict[str, Any] | None) -> None:
    """Print what is done, failed or missing of a sweep, then the other results in its folder."""
    jobs = {job["address"][:16]: label(job["settings"]) for job in sweep["jobs"]} if sweep else {}
    others = {row["address"][:16] for other in lists(root).values() for row in other["jobs"]}
    jobs |= {path.name: "" for path in job_folders(root, None) if path.name not in {*jobs, *others}}
    results = {name: read_any(name_folder(root) / name) for name in jobs}
    open_jobs = [name for name, result in results.items() if result is None or result["status"] != "done"]
    standing = standings(name_folder(root), sweep, open_jobs)
    states, rows = {"done": 0, "running": 0, "queued": 0, "failed": 0, "missing": 0}, []
    for name, settings in jobs.items():
        result = results[name]
        if name in standing:
            state, since, where = standing[name]
            states[state] += 1
            rows.append([settings or "(not of this sweep)", state, since, where])
            continue
        state = "missing" if result is None else str(result["status"])
        states[state] += 1
        seconds = "-" if result is None else f"{result['wall_s']:.0f} s"
        left_out = unjudged.total(result)
        told = f"{state}, {left_out} replies unjudged" if left_out else state
        rows.append([settings or "(not of this sweep)", told, seconds, (result or {}).get("error") or name])
    counts = ", ".join(f"{n} {state}" for state, n in states.items() if n or state in ALWAYS_SAID)
    console.table(f"{root}: {len(jobs)} jobs: {counts}", ["job", "state", "took", "folder or error"], rows)
    took = [result["wall_s"] for result in results.values() if result is not None and result["status"] == "done"]
    if left := time_left(took, len(open_jobs), states["running"]):
        console.say(left)
    if sweep and any(row[1] != "done" for row in rows):
        console.say(f"to go on: {sweep['command']}")


def summarize(folders: Sequence[Path], config: Config) -> None:
    """Write the tables of ``folders`` anew from the results on disk, and their W&B runs with ``tracker=wandb``."""
    tracking_access.check(config.tracker)
    for root in folders:
        with alone(root):
            summarize_sweep(root, config.tracker, anew=True)


def report(folders: Sequence[Path], config: Config) -> None:
    """Log the sweeps of ``folders`` to W&B, make a workspace and a report of each; offline, write what they would hold.

    Raises:
        UserError: a package, the key or the server is missing; nothing was logged.
    """
    tracker = replace(config.tracker, name="wandb")  # what else would a report be of
    sweep_tracking.check(tracker)
    for root in folders:
        with alone(root):
            summarize_sweep(root, tracker)
            sweep_tracking.report(root, tracker)


def compare(config: Config) -> None:
    """Print how alike the circuits of the two folders of ``runs`` are.

    Raises:
        UserError: ``runs`` names not two folders, one holds no circuit, or shapes differ, or no emotion is in both.
    """
    if not isinstance(config.runs, list) or len(config.runs) != 2:
        raise UserError(f"task=compare runs={config.runs}: two folders are needed; type runs=[FOLDER_A,FOLDER_B]")
    first, second = roots(config)
    show_comparison(first, second)


def charts(config: Config) -> None:
    """Write the charts of the pages that ``runs`` names as SVG and PNG: of a job, of a sweep, of all jobs of a folder.

    Raises:
        UserError: ``runs`` names nothing, there is no page, or it has no charts.
    """
    from emo.report.charts.export import export_page

    if config.runs is None:
        raise UserError("task=charts: of which page? type runs=FOLDER of a job or a sweep, e.g. runs=outputs/alpha")
    for root in roots(config):
        pages = [path for path in (root / "report.html",) if path.is_file()] or sorted(root.glob("*/report.html"))
        if not pages:
            raise UserError(f"runs={root}: no report.html in it; type the folder of a job or a sweep")
        for page in pages:
            made = export_page(page)
            console.say(f"{len(made)} files: {made[0].parent}")


def judge(folders: Sequence[Path], config: Config) -> int:
    """Label the replies of finished runs with ``config.evaluator``: the same jobs, of which only labels are missing.

    No language model is read, on whatever machine.

    Raises:
        UserError: the evaluator labels nothing, no finished run has replies, or what its model gave is not there.
    """
    from emo.cli.run import run_job

    if evaluator_of(config, Store(config.paths.store)) is None:
        raise UserError(f"task=judge evaluator={config.evaluator.name}: labels nothing; type {', '.join(EVALUATORS)}")
    found = [(path, read_result(path)) for root in folders for path in job_folders(root, None)]
    finished = [
        (path, r)
        for path, r in found
        if r is not None and r["config"]["evaluator"]["name"] not in ("projection", "prediction")
    ]
    if not finished:
        raise UserError("task=judge: no finished run with replies; type runs=FOLDER, e.g. runs=outputs/run")
    jobs: dict[str, FinishedJob] = {}
    wrong: dict[str, list[str]] = {}
    now = asdict(config)
    changed = {key: now[key] for key in (*RUNTIME_KEYS, "evaluator") if key != "name"} | {"task": "run"}
    for folder, result in finished:
        old = result["config"]
        kept = {key: old["evaluator"][key] for key in MEASURING}
        kept["metrics"] = now["evaluator"]["metrics"] or old["evaluator"].get("metrics", [])
        whole = old | changed | {"evaluator": now["evaluator"] | kept}  # not merged: settings of the one are no other's
        made = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Config), whole))
        assert isinstance(made, Config)
        try:
            job = FinishedJob(made, folder, result)
            if find_result(Path(made.paths.outputs), made.name, job.result_address) is None:
                job.check_stages()
        except UserError as error:
            wrong.setdefault(str(error), []).append(str(folder))
        else:
            jobs.setdefault(job.result_address, job)
    refuse(wrong, len(finished))
    console.say(f"judging the replies of {len(jobs)} runs with evaluator={config.evaluator.name}")
    return max(run_job(job.config, in_sweep=True, job=job) for job in jobs.values())


def prefetch(configs: Sequence[Config]) -> None:
    """Bring every model, dataset and classifier of ``configs`` to this machine, for nodes without a network.

    Raises:
        UserError: one cannot be had.
    """
    engine()  # of the charts: it needs no network, but seconds
    seen: set[str] = set()
    for config in configs:
        spec = describe(config.model, config.device, config.dtype)
        model = f"{spec.id} {spec.weights}"  # not the option's name: model=hub stands for many
        if model not in seen:
            fetch(spec)
            console.say(f"model {config.model.name}: {spec.id} at {spec.version} is on this machine")
        if config.circuit.path is not None and on_hub(config.circuit.path):
            find_circuit(config.circuit.path, "circuit.path")
            console.say(f"circuit {config.circuit.path} is on this machine")
        data = f"{config.dataset.name} {config.dataset.path} {config.dataset.test_path}"
        if data not in seen:
            console.say(f"dataset {config.dataset.name}: {_size(config)}")
        if config.evaluator.name not in ("projection", "prediction") and "encoder" not in seen:
            console.say(f"sentence encoder: {encoder_folder().parent.name} is installed")
        e, judge = config.evaluator, config.elicitation.judge
        judges = e.name, e._target_, e.model, e.encoder, judge
        labeller = f"{config.emotions.names} {judges}"
        if labeller not in seen and not on_classes(config):
            _prefetch_labeller(config)
        seen |= {model, data, labeller, *(["encoder"] if config.evaluator.name != "projection" else [])}


def _size(config: Config) -> str:
    if on_classes(config):
        wanted = config.emotions.names if config.dataset.task == "emotion" else None
        found = load_items(config.dataset, wanted, config.seed)
        return f"{sum(map(len, found[:3]))} texts of {len(found.classes)} classes"
    return f"{sum(load_splits(config.dataset, config.seed).scenarios())} scenarios"


def _prefetch_labeller(config: Config) -> None:
    """Bring what labels replies, for the numbers and for choices on dev."""
    store, c = Store(config.paths.store), config
    evaluator = evaluator_of(c, store)
    said = [] if evaluator is None else [evaluator.prefetch()]
    if c.elicitation.judge == "classifier" and c.evaluator.name != "classifier" and not outside_six(c.emotions.names):
        said.append(ClassifierEvaluator(c, store).prefetch())
    for line in filter(None, said):
        console.say(line)
