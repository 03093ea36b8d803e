"""The configurations of a sweep's jobs, exactly as Hydra composes them, at a tenth of the time.

Hydra reads and merges some thirty files for every job. Which files those are depends on the choices of groups alone, so
jobs with the same choices share one composition of Hydra's own, and on a copy of it only their values are set, by
Hydra's own function. What that function refuses goes to Hydra whole, so that its errors are Hydra's too.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException


class Composer:
    """The jobs of one sweep, composed without Hydra's own section."""

    def __init__(self, loader: Any, master: Any) -> None:
        """Take Hydra's configuration loader and the composed configuration of the sweep itself."""
        self.loader, self.master = loader, master
        self.name = master.hydra.job.config_name
        self.given: list[str] = list(master.hydra.overrides.hydra)
        _, self.repository = loader._parse_overrides_and_create_caching_repo(self.name, self.given)
        self.parser = OverridesParser.create()
        self.parsed: dict[str, Override] = {}  # overrides recur from job to job
        self.bases: dict[tuple[str, ...], DictConfig] = {}  # by the words that choose files

    def compose(self, words: Sequence[str]) -> DictConfig:
        """Return the configuration of the job with these overrides.

        Raises:
            HydraException, OmegaConfBaseException: Hydra refuses an override.
        """
        try:
            made = self._on_a_base(words)
        except (HydraException, OmegaConfBaseException):
            made = None
        return self._by_hydra(words) if made is None else made

    def _by_hydra(self, words: Sequence[str]) -> DictConfig:
        config: DictConfig = self.loader.load_sweep_config(self.master, list(words))
        return config

    def _on_a_base(self, words: Sequence[str]) -> DictConfig | None:
        """Return the values of a job on its groups' composition; None: Hydra has to look at all words together."""
        choosing, values = [], []
        for word in words:
            override = self._parse(word)
            if override.is_sweep_override():
                return None
            if override.is_hydra_override() or self._chooses_a_file(override):
                choosing.append(word)
            elif "hydra" in word:  # a value that may refer to Hydra's section
                return None
            else:
                values.append(override)
        config = copy.deepcopy(self._base(tuple(choosing)))
        ConfigLoaderImpl._apply_overrides_to_config(values, config)
        OmegaConf.copy_cache(from_config=self.master, to_config=config)
        OmegaConf.set_struct(config, None)  # so that the schema decides what is a key, as without a base
        return config

    def _parse(self, word: str) -> Override:
        if word not in self.parsed:
            [self.parsed[word]] = self.parser.parse_overrides([word])
        return self.parsed[word]

    def _chooses_a_file(self, override: Override) -> bool:
        """As Hydra decides it: a dictionary is a value, also for the name of a group."""
        return not isinstance(override.value(), dict) and self.repository.group_exists(override.key_or_group)

    def _base(self, choosing: tuple[str, ...]) -> DictConfig:
        if choosing not in self.bases:
            made = self.loader.load_configuration(self.name, [*self.given, *choosing], RunMode.RUN)
            with open_dict(made):
                del made["hydra"]
            self.bases[choosing] = made
        return self.bases[choosing]
