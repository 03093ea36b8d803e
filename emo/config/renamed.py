"""Keys of the configuration that have a better name now; the old one is accepted for a release, with a line.

It is read where it is typed (`typed`), in files (`moved`) and in stored results (`stored`). Addresses keep the old
words (`in_addresses`), so a result that is stored under the old name is found by the new one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from emo.core import console
from emo.core.errors import UserError

UNTIL = "0.3"  # the release that no longer knows the old names


class Renamed(NamedTuple):
    """One key; where its values have other words too, the old value behind each new one."""

    section: str
    old: str
    new: str
    values: Mapping[str, bool] = {}

    @property
    def before(self) -> str:
        """The dotted old key."""
        return f"{self.section}.{self.old}"

    @property
    def now(self) -> str:
        """The dotted new key."""
        return f"{self.section}.{self.new}"

    def value(self, old: Any) -> Any:
        """Return the new word for a value as it was typed or stored, several with commas between them too."""
        for word, was in self.values.items():
            pattern = r"\b(true|yes|on|1)\b" if was else r"\b(false|no|off|0)\b"
            old = re.sub(pattern, word, str(old), flags=re.IGNORECASE)
        return old


RENAMED = (
    Renamed("intervention", "of", "ratio_of"),
    Renamed("intervention", "live", "attenuate_by", {"live": True, "mean": False}),
    Renamed("circuit", "stable", "reference_layers"),
    Renamed("circuit", "alphas", "push_sizes"),
    Renamed("circuit", "final", "importance_at"),
)
_SIGNS = "+~"  # of an override of Hydra's
_noted: set[str] = set()


def typed(words: Sequence[str], *, quiet: bool = False) -> list[str]:
    """Return words ``KEY=VALUE`` with the new names; says which were old, once in a process.

    Raises:
        UserError: a key is given by its old and by its new name.
    """
    keys = {_key(word) for word in words}
    for one in RENAMED:
        if {one.before, one.now} <= keys:
            raise _twice(one)
    found = []
    for word in words:
        match = next((one for one in RENAMED if _key(word) == one.before), None)
        if match is not None:
            key, mark, value = word.partition("=")
            sign = key[: len(key) - len(match.before)].replace("+", "")  # the new key is there: nothing is added
            word = sign + match.now + mark + match.value(value)
            _note(match, quiet)
        found.append(word)
    return found


def moved(config: DictConfig, words: Sequence[str], defaults: DictConfig) -> DictConfig:
    """Return a composed configuration whose files may have old names, with the new ones.

    Args:
        config: as Hydra composed it; left as it is.
        words: that were typed, by their new names: they would be lost behind an old name in a file.
        defaults: the schema's.

    Raises:
        UserError: a key is given by its old and by its new name.
    """
    held = [one for one in RENAMED if one.old in (config.get(one.section) or {})]
    if not held:
        return config
    keys = {_key(word) for word in words}
    made: Any = OmegaConf.to_container(config)
    for one in held:
        section, default = made[one.section], defaults[one.section]
        was = section.pop(one.old)
        if one.now in keys or section.get(one.new, default[one.new]) != default[one.new]:
            raise _twice(one)
        section[one.new] = one.value(was)
        _note(one, made.get("console") == "quiet")
    found: DictConfig = OmegaConf.create(made)
    return found


def stored(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a stored result with the new names."""
    found = dict(config)
    for one in RENAMED:
        section = found.get(one.section)
        if isinstance(section, Mapping) and one.old in section:
            found[one.section] = {
                (one.new if key == one.old else key): one.value(x) if key == one.old else x
                for key, x in section.items()
            }
    return found


def stored_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return swept values by dotted key, as a sweep's list has them, with the new names."""
    by_old = {one.before: one for one in RENAMED}
    return {by_old[key].now if key in by_old else key: by_old[key].value(x) if key in by_old else x
            for key, x in settings.items()}  # fmt: skip


def in_addresses(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys of a section, and their values, by the words that they have in addresses."""
    by_new = {one.new: one for one in RENAMED if one.section == section}
    return dict(_in_addresses(by_new, values))


def _in_addresses(by_new: Mapping[str, Renamed], values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        one = by_new.get(key)
        yield (key, value) if one is None else (one.old, one.values[value] if one.values else value)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip(_SIGNS)


def _twice(one: Renamed) -> UserError:
    return UserError(f"{one.before} and {one.now}: the old and the new name of one key; leave {one.before} out")


def _note(one: Renamed, quiet: bool) -> None:
    if not quiet and one.before not in _noted:
        _noted.add(one.before)
        console.note(f"{one.before} is now {one.now}; the old name is accepted until {UNTIL}")
