"""Hydra finds sweepers only here: one thin class over `emo.cli.sweeper`."""

from __future__ import annotations

from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore


class EmoSweeper(BasicSweeper):
    """Checks all jobs before the first, skips finished ones, reports failures at the end."""

    def __init__(self, max_batch_size: int | None, params: Any = None, jobs: Any = None) -> None:
        """Take ``params``, the axes of a grid, and ``jobs``, texts of overrides that belong together."""
        super().__init__(max_batch_size, params)
        self.jobs = jobs

    def sweep(self, arguments: list[str]) -> Any:
        """Run the jobs that ``arguments`` (``KEY=VALUE,VALUE``) stand for."""
        from emo.cli.sweeper import sweep

        params = [f"{key}={value}" for key, value in (self.params or {}).items()]
        return sweep(self.hydra_context.config_loader, self.config, self.launcher, params, arguments, self.jobs)


# Hydra executes this file without making it a module, so a dataclass cannot be declared here.
NODE = {"_target_": "hydra_plugins.emo_sweeper.EmoSweeper", "max_batch_size": None, "params": None, "jobs": None}
ConfigStore.instance().store(group="hydra/sweeper", name="emo", node=NODE, provider="emo")
