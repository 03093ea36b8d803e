"""The reason is the reason: what transformers, the hub and torch raise, as one true line each."""

from __future__ import annotations

import errno
import importlib
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from support.hub_cache import HubCache

from emo.config.schema import ModelConfig
from emo.core.errors import UserError
from emo.model import hub
from emo.model.load import describe, load
from emo.model.load_errors import HubUnreachableError, load_errors

httpx: Any = importlib.import_module(HfHubHTTPError.__mro__[1].__module__.partition(".")[0])
WRAPPED = (
    "We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in the cached files."
)
CPU = "[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory: 9 bytes"
NO_SPM = "X requires the SentencePiece library but it was not found in your environment."


def answer(status: int, kind: type[HfHubHTTPError] = HfHubHTTPError) -> HfHubHTTPError:
    """Return what the hub's client raises on an HTTP status."""
    request = httpx.Request("GET", "https://huggingface.co/api/models/owner/x")
    return kind(f"Client error '{status}'", response=httpx.Response(status, request=request))


def caused(error: Exception, cause: Exception) -> Exception:
    """Return an exception raised from another, as transformers wraps them."""
    error.__cause__ = cause
    return error


NETWORK = {
    "no route": httpx.ConnectError("[Errno -2] Name or service not known"),
    "slow": httpx.ReadTimeout("timed out"),
    "reset": ConnectionResetError(104, "Connection reset by peer"),
    "timeout": TimeoutError("timed out"),
    "wrapped": caused(OSError(WRAPPED), caused(LocalEntryNotFoundError("no file"), httpx.ConnectError("refused"))),
    "server": answer(503),
    "too many": answer(429),
}


@pytest.mark.parametrize("name", NETWORK)
def test_a_connection_that_fails_is_said_with_its_reason(name: str) -> None:
    """What carries a connection says so, with the reason in its own words."""
    line = r"^model\.id=owner/x: could not be read .*check the network$"
    with pytest.raises(HubUnreachableError, match=line), load_errors("owner/x"):
        raise NETWORK[name]


OTHER: dict[str, tuple[Exception, tuple[str, ...]]] = {
    "gpu memory": (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        ("does not fit into memory (OutOfMemoryError: CUDA out of memory. Tried", "dtype=bfloat16"),
    ),
    "memory": (MemoryError(), ("does not fit into memory (MemoryError)",)),
    "allocator": (RuntimeError(CPU), ("does not fit into memory (RuntimeError: ",)),
    "mapping": (OSError(errno.ENOMEM, "Cannot allocate memory"), ("does not fit into memory (OSError: ",)),
    "package": (
        ModuleNotFoundError("No module named 'sentencepiece'", name="sentencepiece"),
        ("needs the package sentencepiece; type: pip install sentencepiece",),
    ),
    "library": (ImportError(NO_SPM), ("needs the package SentencePiece",)),
    "told to install": (
        ValueError("`tiktoken` is required to read a `tiktoken` file. Install it with `pip install tiktoken`."),
        ("needs the package tiktoken; type: pip install tiktoken",),
    ),
    "shared object": (
        ImportError("libcudart.so.12: no such file"),
        ("a package cannot be imported (ImportError: lib",),
    ),
    "gated": (caused(OSError("gated repo"), answer(403, GatedRepoError)), ("gated; accept its licence",)),
    "revision": (
        caused(OSError("not a valid git identifier"), answer(404, RevisionNotFoundError)),
        ("no revision v2 of it on the hub; look at model.revision",),
    ),
    "nothing there": (answer(401, RepositoryNotFoundError), ("not on the hub (or private: set HF_TOKEN)",)),
    "forbidden": (answer(403), ("refused by the hub (HfHubHTTPError: Client error '403'",)),
    "unknown": (ZeroDivisionError("division by zero"), ("could not be loaded (ZeroDivisionError: division by zero)",)),
    "disk": (OSError(errno.ENOSPC, "No space left on device"), ("could not be loaded (OSError: [Errno 28] No space",)),
}


@pytest.mark.parametrize("name", OTHER)
def test_not_the_network(name: str) -> None:
    """Nobody who lacks memory or a package is sent to look at cables; the cause stays chained."""
    error, parts = OTHER[name]
    with pytest.raises(UserError) as found, load_errors("owner/x", "v2"):
        raise error
    assert not isinstance(found.value, HubUnreachableError)
    assert "\n" not in str(found.value) and "check the network" not in str(found.value)
    assert all(part in str(found.value) for part in ("model.id=owner/x: ", *parts))
    assert found.value.__cause__ is error


def test_out_of_memory_while_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the loader itself, not only through the translation."""
    monkeypatch.setattr("emo.model.tiny.tiny_model", Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory.")))
    load.cache_clear()
    with pytest.raises(UserError, match=r"^model\.id=llama: does not fit into memory"):
        load(describe(ModelConfig(name="tiny_llama", source="tiny", id="llama"), "cpu", "float32"))


def test_without_a_network_the_cache_is_asked(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a connection that fails sends us to the cache; its answer names both."""
    HubCache(tmp_path).use(monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    api = Mock()
    monkeypatch.setattr(hub, "HfApi", lambda: api)
    api.model_info.side_effect = httpx.ConnectError("no route")
    with pytest.raises(UserError, match=r"not in the local cache and not to be downloaded \(ConnectError: no route\)"):
        hub.hub_commit("owner/none", None)
    api.model_info.side_effect = ZeroDivisionError("a mistake of ours")
    with pytest.raises(UserError, match="ZeroDivisionError: a mistake of ours"):
        hub.hub_commit("owner/none", None)
    files = [Mock(rfilename=name) for name in ("config.json", "model.safetensors")]
    api.model_info.side_effect, api.model_info.return_value = None, Mock(sha="c0ffee", siblings=files)
    assert hub.hub_commit("owner/none", None) == ("c0ffee", False, {"config.json", "model.safetensors"})
