"""Why a model cannot be loaded, as one true line each.

Only what speaks of a connection is said to be the network's: `HubUnreachableError`. What is known has its own line;
anything else is repeated as the library said it, with its cause chained for ``HYDRA_FULL_ERROR=1``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOMEM
from pathlib import Path

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError, safe_open

from emo.core.errors import UserError

MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory", re.IGNORECASE)
PACKAGE = re.compile(r"pip install [`'\"]?(?:-U |--upgrade )?([A-Za-z][\w.\-]*)|requires the (\S+) library")
NO_FILE = re.compile(r"does not appear to have (?:a file named|files named) \(?'?([\w.\-]+)")
UNKNOWN_TYPE = re.compile(r"model type `([^`]+)`")
NETWORK = re.compile(r"(httpx|httpcore|requests|urllib3|ssl|socket)\d*\b")  # whose exceptions tell of a connection
RETRIED = (408, 429)  # statuses of the client's kind that pass
WEIGHTS = "model.safetensors"
OWN = ("model.path", "model.adapter", "circuit.path")  # keys that name files of the user's own
SHOWN = 300  # characters of a library's own words


class HubUnreachableError(UserError):
    """No answer from the hub; ``reason`` says why in a few words."""

    def __init__(self, name: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{name}: could not be read from the hub ({reason}); check the network")


@contextmanager
def load_errors(
    model_id: str,
    revision: str | None = None,
    local: bool = False,
    folder: str | Path | None = None,
    key: str = "model.id",
) -> Iterator[None]:
    """Turn what transformers, the hub and torch raise into a `UserError` of one line.

    Args:
        model_id: hub repository or folder.
        revision: of the hub's repository.
        local: only files of this machine are asked for, so nothing can fail at the network.
        folder: where the files lie, if not in the hub's cache; read only to name a damaged or missing file.
        key: of the configuration, which the line names.

    Raises:
        HubUnreachableError: there was no answer from the hub.
        UserError: any other reason.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        name, links = f"{key}={model_id}", list(_chain(error))
        known = next((line for link in links if (line := _known(link))), None)
        known = known or next((line for link in links if (line := _of_hub(link, revision))), None)
        if known is None and any(isinstance(link, SafetensorError) for link in links):
            known = _damaged(_where(model_id, revision, folder), own=key in OWN)
        if known is None and local and key not in OWN and any(_is_absent(link) for link in links):
            known = _not_whole(_where(model_id, revision, folder))
        if known is None and (match := next((m for link in links if (m := NO_FILE.search(str(link)))), None)):
            known = f"there is no {match.group(1)} in its repository"
        if known is None and (met := next((link for link in links if is_connection(link)), None)) is not None:
            raise HubUnreachableError(name, words(met)) from error
        raise UserError(f"{name}: {known or f'could not be loaded ({words(error)})'}") from error


def is_connection(error: BaseException) -> bool:
    """Tell whether an exception means that the hub gave no answer, or none that will stay."""
    if (status := getattr(getattr(error, "response", None), "status_code", None)) is not None:
        return status >= 500 or status in RETRIED
    if isinstance(error, ConnectionError | TimeoutError | LocalEntryNotFoundError):
        return True
    return any(NETWORK.match(base.__module__) for base in type(error).__mro__)


def words(error: BaseException) -> str:
    """Return the kind of an exception and the beginning of what it says."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:SHOWN]}".rstrip(": ")


def snapshot(model_id: str, revision: str | None) -> Path | None:
    """Return the folder of the local cache that holds a revision (default: main), whole or in part, or None."""
    try:
        return Path(snapshot_download(model_id, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:  # a prefetched repository lacks what nobody reads, a README
        path = getattr(error, "snapshot_path", None)
        return Path(path) if path else None


def _where(model_id: str, revision: str | None, folder: str | Path | None) -> Path | None:
    return Path(folder) if folder is not None else snapshot(model_id, revision)


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ if link.__cause__ or link.__suppress_context__ else link.__context__


def _known(error: BaseException) -> str | None:
    """Return what an exception of torch, Python or transformers means; None: nothing that is known."""
    text = str(error)
    no_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or getattr(error, "errno", None) == ENOMEM
    if no_memory or (isinstance(error, RuntimeError) and MEMORY.search(text)):
        return (
            f"does not fit into memory ({words(error)}); type a smaller model; of a language model, dtype=bfloat16 "
            "takes half of float32, and model.device_map=auto spreads it over several GPUs"
        )
    if isinstance(error, ValueError | KeyError) and (match := UNKNOWN_TYPE.search(text)):
        return (
            f"model type '{match.group(1)}' is not known to transformers {transformers.__version__}; "
            "it may need a newer one: pip install -U transformers"
        )
    if isinstance(error, ValueError) and "custom code" in text:
        return "needs code of its own repository, which is never run; type a model whose type transformers knows"
    package = PACKAGE.search(text)
    if isinstance(error, ImportError) or (isinstance(error, ValueError) and package):
        said = next((name for name in package.groups() if name), None) if package else None
        name = (getattr(error, "name", None) or said or "").rstrip(".")
        if not name:
            return f"a package cannot be imported ({words(error)})"
        return f"needs the package {name}; type: pip install {name}"
    return None


def _of_hub(error: BaseException, revision: str | None) -> str | None:
    """Return what the hub's refusal means; None: it is none."""
    if isinstance(error, GatedRepoError):
        return "gated; accept its licence on its hub page, then set HF_TOKEN or type: hf auth login"
    if isinstance(error, RevisionNotFoundError):
        return f"there is no revision {revision or 'main'} of it on the hub; look at model.revision"
    if isinstance(error, RepositoryNotFoundError):
        return "not on the hub (or private: set HF_TOKEN)"
    if isinstance(error, HFValidationError):
        return f"{error}; an id reads OWNER/NAME"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None and 400 <= status < 500 and status not in RETRIED:
        return f"refused by the hub ({words(error)})"
    return None


def _is_absent(error: BaseException) -> bool:
    return isinstance(error, EntryNotFoundError | OfflineModeIsEnabled) or bool(NO_FILE.search(str(error)))


def _not_whole(folder: Path | None) -> str:
    """Say that the local cache holds a part of a checkpoint, and which file it lacks."""
    lacking = missing_files(folder) if folder else []
    return (
        f"not whole in the local cache ({lacking[0] if lacking else 'files'} missing); type the same line with "
        "task=prefetch where there is a network"
    )


def missing_files(folder: Path) -> list[str]:
    """Return the files of configuration and weights that a checkpoint in ``folder`` lacks."""
    index = folder / "model.safetensors.index.json"
    weights = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values() if index.is_file() else [WEIGHTS]
    return [name for name in ("config.json", *sorted(set(weights))) if not (folder / name).is_file()]


def _damaged(folder: Path | None, own: bool) -> str | None:
    """Name the file of weights that cannot be read; ``own``: the user's, that nothing brings back."""
    for path in sorted(folder.glob("*.safetensors")) if folder else []:
        try:
            with safe_open(path, "pt"):
                pass
        except SafetensorError as error:
            file = path.resolve()  # the cache links to it, and would link to it again
            how = f"delete {file} and type the same line again, where it can be downloaded"
            how = "copy it again, or save the model again" if own else how
            return f"{path.name} is truncated or damaged ({words(error)}); {how}"
    return None
