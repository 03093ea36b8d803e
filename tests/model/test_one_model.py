"""One model in memory: what was loaded lets go before the next is read, also after a load that failed."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from support.jobs import config

from emo.cli.run import run_job
from emo.config.schema import ModelConfig
from emo.core import store
from emo.core.errors import UserError
from emo.core.store import peak_mb
from emo.model import load as loading
from emo.model import tiny
from emo.model.keep import KeepOne
from emo.model.lm import LM
from emo.model.load import describe, load

pytestmark = pytest.mark.usefixtures("quiet")


def spec(family: str) -> Any:
    """Return the description of a tiny model."""
    return describe(ModelConfig(name=f"tiny_{family}", source="tiny", id=family), "cpu", "float32")


@pytest.fixture
def alive(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return, for every model that is made from now on, which earlier ones were in memory when it began."""
    made: list[tuple[str, weakref.ref[Any]]] = []
    seen: list[list[str]] = []
    own = tiny.tiny_model

    def watched(family: str, seed: int = 0) -> Any:
        seen.append([name for name, ref in made if ref() is not None])
        model = own(family, seed)
        made.append((family, weakref.ref(model)))
        return model

    load.cache_clear()
    monkeypatch.setattr(tiny, "tiny_model", watched)
    return seen


def test_the_first_is_gone_before_the_second_is_read(alive: list[list[str]]) -> None:
    """Two models of 30 GB on a GPU of 48 GB."""
    first = load(spec("llama"))
    assert load(spec("llama")) is first and len(alive) == 1
    first.prefixes[1,] = [(torch.zeros(1), torch.zeros(1))]
    del first
    load(spec("qwen2"))
    assert alive == [[], []]


def test_prefix_caches_go_even_where_the_model_is_held(alive: list[list[str]]) -> None:
    """A script that holds two models holds no keys and values of the one it does not use."""
    first = load(spec("llama"))
    first.prefixes[1,] = [(torch.zeros(1), torch.zeros(1))]
    load(spec("qwen2"))
    assert not first.prefixes and alive == [[], ["llama"]]


def test_after_a_load_that_failed(alive: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """The exception that is reported holds no model, nor does the cache."""

    def refuse(lm: LM) -> None:
        raise UserError(f"{lm.spec.title}: no")

    with monkeypatch.context() as patch:
        patch.setattr(loading, "verify", refuse)
        with pytest.raises(UserError, match="tiny_qwen2: no") as kept:
            load(spec("qwen2"))
    load(spec("llama"))
    assert kept.value is not None and alive == [[], []]


def test_jobs_hold_no_model(alive: list[list[str]], tmp_path: Path) -> None:
    """A sweep over models: what a job was made of goes with it."""
    for name in ("tiny_llama", "tiny_qwen2"):
        assert run_job(config(tmp_path, f"model={name}", "evaluator=projection"), in_sweep=True) == 0
    assert alive == [[], []]


def test_memory_of_the_gpu_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the next is computed: torch's own cache would keep the blocks of the old one."""
    steps: list[str] = []

    @KeepOne
    def one(key: str) -> str:
        """Make something."""
        steps.append(f"make {key}")
        return key

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: steps.append("empty"))
    assert [one("a"), one("a"), one("b")] == ["a", "a", "b"]
    assert steps == ["make a", "empty", "make b"]
    assert one.__doc__ == "Make something."


def test_peak_memory_is_that_of_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resident memory says nothing of what a model needs on a GPU."""
    assert peak_mb() > 50
    monkeypatch.setattr(store.torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(store.torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(store.torch.cuda, "max_memory_allocated", lambda i: (3 + i) * 2**20)
    assert peak_mb() == 7
    monkeypatch.setattr(store.torch.cuda, "max_memory_allocated", lambda _: 0)
    assert peak_mb() > 50  # a GPU is there and device=cpu was typed
