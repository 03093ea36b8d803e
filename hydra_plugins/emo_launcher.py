"""Hydra finds launchers only here: the keys of ``cluster=joblib`` and ``cluster=gpus``, read by `emo.cli.launch`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.launcher import Launcher


class ProcessLauncher(Launcher):
    """Jobs in several processes of this machine; the sweeper starts them (`emo.cli.launch.processes`)."""

    def __init__(self, n_jobs: int | None, gpus: bool) -> None:
        """Take the number of processes (None: one for each GPU), and whether each has a GPU of its own."""
        self.n_jobs, self.gpus = n_jobs, gpus

    def setup(self, **_: Any) -> None:
        """Nothing is needed of Hydra."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        """Never called: only the sweeper of this package starts jobs."""
        raise NotImplementedError("hydra/launcher=processes needs hydra/sweeper=emo")


# Hydra executes this file without making it a module, so a dataclass cannot be declared here.
NODE = {"_target_": "hydra_plugins.emo_launcher.ProcessLauncher", "n_jobs": 2, "gpus": False}
ConfigStore.instance().store(group="hydra/launcher", name="processes", node=NODE, provider="emo")
