"""One model in memory: what was loaded is kept until another is asked for, and lets go before that one is read."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class KeepOne(Generic[Key, Value]):
    """Decorator: remembers the last value only, and drops it, prefix caches included, before the next is computed.

    `functools.lru_cache` with room for one holds the old value until the new one is there: two models in memory.
    """

    def __init__(self, compute: Callable[[Key], Value]) -> None:
        self._compute, self.__doc__ = compute, compute.__doc__
        self._kept: dict[Key, Value] = {}
        self._failed = False

    def __call__(self, key: Key) -> Value:
        """Return the value of ``key``, computed unless it is the one that is kept."""
        if key not in self._kept:
            self.cache_clear()
            handled = sys.exception()  # the caller's own, if it asks while it handles one
            try:
                self._kept[key] = self._compute(key)
            except BaseException as error:
                self._failed = True
                _forget(error, handled)
                raise
        return self._kept[key]

    def cache_clear(self) -> None:
        """Let go of what is kept and give its memory back, that of the GPU too."""
        if not self._kept and not self._failed:
            return
        while self._kept:  # prefix caches too, also those of a model that somebody else still holds
            getattr(self._kept.popitem()[1], "prefixes", {}).clear()
        self._failed = False
        gc.collect()  # modules and hooks refer to each other
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


def _forget(error: BaseException | None, handled: BaseException | None) -> None:
    """Drop the local variables that an exception and its causes still hold: half a model, after a failed load."""
    while error is not None and error is not handled:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
