"""The command ``emo`` (in a clone: ``python run.py``): from a command line to jobs, and to an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from emo.cli.sweeper import register_presets
from emo.config import check as validate
from emo.config import error_text as cli
from emo.config import renamed
from emo.config.read_keys import refuse_unread
from emo.core import home
from emo.core.errors import UserError

FULL = os.environ.get("HYDRA_FULL_ERROR") == "1"  # the user wants tracebacks
codes: list[int] = []  # of the jobs that ran in this process


@hydra.main(version_base="1.3", config_path=str(home.CONF), config_name="config")
def run(cfg: DictConfig) -> int:
    """Run one job; report its errors here, where Hydra does not comment on them."""

    def job() -> int:
        hydra = HydraConfig.get()
        config = validate.to_config(cfg, hydra.overrides.task)
        in_sweep = hydra.mode == RunMode.MULTIRUN
        if not in_sweep:  # of a sweep all jobs together decide
            where = hydra.runtime.choices.get("cluster")
            if where is not None and config.task == "run":
                raise UserError(
                    f"cluster={where}: where the jobs of a sweep run; type -m too (one job is a sweep of one)"
                )
            refuse_unread(hydra.overrides.task, [config])
        from emo.cli.run import run_job  # loads torch: not before the request is known to be right
        from emo.cli.tasks import run_task

        if config.task != "run":
            return run_task(config, hydra.overrides.task)
        return run_job(config, cli.command(hydra.overrides.task), in_sweep=in_sweep)

    codes.append(cli.guard(job, full=FULL))
    return codes[-1]


def launch() -> int:
    """Parse the command line and hand over to Hydra; raises what Hydra refuses."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            typed = get_args_parser().parse_args()
    except SystemExit as stop:
        if stop.code:
            reason = said.getvalue().strip().rpartition("error: ")[2]
            raise UserError(f"{reason}; flags such as -m go before all KEY=VALUE, see --help") from None
        raise
    if typed.help:
        sys.argv[1:] = help_words(sys.argv[1:])
    completing = typed.shell_completion and "query=" in "".join(typed.overrides)
    sys.argv[1:] = renamed.typed(sys.argv[1:], quiet="console=quiet" in sys.argv)
    os.environ.pop(cli.CONFIG_DIR, None)
    if typed.config_dir is not None:
        os.environ[cli.CONFIG_DIR] = typed.config_dir
    register_presets()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # raise instead of printing, so that one line can be printed here
    try:
        run()
    except BrokenPipeError:
        raise
    except Exception as error:
        if completing:  # a half-typed line is no error, and a line of text would land in the middle of it
            return 0
        if cli.is_refusal(error):
            raise cli.explain(error) from error
        raise
    return cli.combine(codes)


def help_words(words: list[str]) -> list[str]:
    """Return command-line arguments with the word behind ``--help`` as Hydra chooses a help: ``--help groups``.

    Raises:
        UserError: there is no such help.
    """
    plain = [word for word in get_args_parser().parse_args(words).overrides if "=" not in word]
    if plain not in ([], ["groups"]):
        raise UserError(f"--help {' '.join(plain)}: type --help (one screen) or --help groups (all options)")
    return ["hydra/help=groups" if word in plain else word for word in words]


def main() -> int:
    """Run the command line of this process; returns the exit code."""
    return cli.guard(launch, full=FULL)
