"""Sweeps: every job is composed and checked before the first starts, and nothing finished runs twice.

What is done is read from disk: a job is done when the result of its address is there, under this name or
another. So an interrupted or failed sweep goes on by typing the same line again, under every launcher.

A sweep is a grid (``hydra.sweeper.params``), a list of jobs (``hydra.sweeper.jobs``, see `emo.cli.job_lists`), or every
job of the list at every point of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from emo.cli.composing import Composer
from emo.cli.job_lists import key_of, read_jobs
from emo.config import check as validate
from emo.config import error_text as cli
from emo.config.choices import BUILDS
from emo.config.read_keys import refuse_unread
from emo.config.renamed import typed as new_names
from emo.config.schema import Config
from emo.config.values import DIVERGENCE
from emo.core import console, home
from emo.core.errors import UserError, refuse

ESCAPED = "=kl\\:"  # as Hydra writes kl:1.0 when it splits a sweep; a line that is shown has it as it is typed
MANY = 20  # jobs whose checking takes long enough to be shown


def register_presets(folder: Path = home.PRESETS) -> None:
    """Make ``folder/*.yaml`` the options of the config group ``sweeps``, from whatever directory one starts.

    Raises:
        UserError: a file cannot be read.
    """
    for path in sorted(folder.glob("*.yaml")):
        try:
            node = OmegaConf.load(path)
        except Exception as error:  # the reader of YAML has many
            raise UserError(f"{path}: no valid YAML ({' '.join(str(error).split())[:160]})") from None
        ConfigStore.instance().store(group="sweeps", name=path.stem, node=node, package="_global_", provider=str(path))


def sweep(
    loader: Any, master: Any, launcher: Any, params: list[str], typed: list[str], jobs: object = None
) -> list[Any]:
    """Run, or look after, the jobs of a sweep (`task` decides).

    Args:
        loader: Hydra's configuration loader.
        master: the composed configuration of the sweep itself.
        launcher: Hydra's launcher of the jobs.
        params: a preset's overrides, ``KEY=VALUE,VALUE``.
        typed: those of the command line; they replace a preset's, and those of a job.
        jobs: texts of overrides that belong together (see `emo.cli.job_lists.read_jobs`); they replace ``params``.

    Raises:
        UserError: at least one job is wrong; nothing was started.
        SystemExit: 1 where a job failed.
    """
    console.setup(str(OmegaConf.select(master, "console", default="rich")))
    params, listed = new_names(params), [new_names(own) for own in read_jobs(jobs)]
    combinations = combine(loader, params, listed, typed)
    configs = _compose(loader, master, combinations)
    refuse_unread(typed, [config for _, config in configs])
    from emo.cli import (
        forecast,
        plan,
        tasks,  # load torch: not before every job is known to be well-formed
    )
    from emo.cli.launch import start
    from emo.results.sweep_folder import home

    start.check_cluster(typed, master.hydra.launcher)

    task = configs[0][1].task
    if task == "prefetch":
        tasks.prefetch([config for _, config in configs])
        return []
    if task == "extract":
        from emo.cli.extract import extract

        extract([(config, cli.command([w for w in words if w != "task=extract"])) for words, config in configs])
        return []
    if task == "judge":
        raise UserError("task=judge: it labels finished runs; type runs=FOLDER, without -m and sweeps=")
    if task in ("gc", "verify", "agreement", "label_sheet", "charts"):
        raise UserError(f"task={task}: it looks after what is there; type it without -m and sweeps=")
    if task in BUILDS:
        raise UserError(f"task={task}: one set a line; type it without -m and sweeps=")
    if task == "compare":
        raise UserError("task=compare: it reads two circuits; type runs=[FOLDER_A,FOLDER_B], without -m and sweeps=")
    keys = dict.fromkeys(key_of(word) for own in listed for word in own)
    given = OmegaConf.select(master, "hydra.overrides.hydra", default=[])
    made = plan.make(configs, _command(typed, given), list(keys))
    if task == "plan":
        forecast.show(made, OmegaConf.select(master, "hydra.launcher.mem_gb", default=None), made.command)
        return []
    if task == "status":
        tasks.show_status(made.root, made.listing())
        return []
    if task in ("summarize", "report"):
        getattr(tasks, task)([home(made.root, made.id) or made.root], configs[0][1])
        return []
    waiting = plan.announce(made)
    if waiting and not start.run_jobs(made, waiting, master.hydra.launcher, launcher):
        return []
    if plan.conclude(made, waiting):
        raise SystemExit(cli.FAILED)
    return []


def combine(loader: Any, params: Sequence[str], jobs: Sequence[list[str]], typed: Sequence[str]) -> list[list[str]]:
    """Return the overrides of every job: the grid of ``params``, for each of the listed ``jobs``.

    Of a key that stands there twice Hydra's sweeper takes the later value: a job's before a preset's, what is typed
    before both.
    """
    parser = OverridesParser.create(config_loader=loader)
    combinations: list[list[str]] = []
    for own in jobs or [[]]:
        [found] = BasicSweeper.split_arguments(parser.parse_overrides([*params, *own, *typed]), None)
        combinations += [[word.replace(ESCAPED, f"={DIVERGENCE}") for word in words] for words in found]
    return combinations


def _command(typed: Sequence[str], hydra: Sequence[str]) -> str:
    """Return the line that continues this sweep, with what was typed of Hydra's own keys: jobs, launcher."""
    words = [*(word for word in hydra if key_of(word) != "hydra.mode"), *typed]
    words = [word for word in words if key_of(word) not in ("task", "cluster.wait")]
    preset = any(word.startswith("sweeps=") for word in typed)
    return cli.command(words if preset else ["-m", *words])


def _compose(loader: Any, master: Any, combinations: Sequence[list[str]]) -> list[tuple[list[str], Config]]:
    """Return every job's configuration; all that is wrong is said at once."""
    made: list[tuple[list[str], Config]] = []
    wrong: dict[str, list[str]] = {}
    composer = Composer(loader, master)
    shown = console.progress("checking", len(combinations), "jobs") if len(combinations) > MANY else nullcontext()
    with shown as counter:
        for words in combinations:
            if counter is not None:
                counter.advance()
            try:
                made.append((words, validate.to_config(composer.compose(words), words)))
            except UserError as error:
                wrong.setdefault(str(error), []).append(" ".join(words))
            except Exception as error:
                if not cli.is_refusal(error):
                    raise
                wrong.setdefault(str(cli.explain(error)), []).append(" ".join(words))
    refuse(wrong, len(combinations))
    return made
