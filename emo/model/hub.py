"""Hugging Face's hub: which commit a name means, and what its repository holds."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, constants

from emo.core.errors import UserError
from emo.model.load_errors import HubUnreachableError, load_errors, snapshot

TIMEOUT_S = 10.0  # one request; without a network a user waits for no more than two of them


class Revision(NamedTuple):
    """A commit, whether only the local cache is to be asked for its files, and which files are known of."""

    commit: str
    local: bool
    files: frozenset[str]  # of the repository; where ``local``, those that the cache holds


def hub_commit(model_id: str, revision: str | None, key: str = "model.id") -> Revision:
    """Return the commit that ``revision`` (default: main) of ``model_id`` stands for.

    Asks the hub; without a network, or with HF_HUB_OFFLINE=1, the cached commit is used. ``key`` is what an error
    names. Raises `UserError` where the model does not exist, is gated, is a local folder, or is neither cached nor
    reachable.
    """
    name = f"{key}={model_id}"
    _no_folder(name, model_id)
    if constants.HF_HUB_OFFLINE:
        return _cached(name, model_id, revision, "HF_HUB_OFFLINE is set")
    try:
        with load_errors(model_id, revision, key=key):
            found = HfApi().model_info(model_id, revision=revision, timeout=TIMEOUT_S)
    except HubUnreachableError as error:
        why = error.reason
    else:
        if found.sha is None:
            raise UserError(f"{name}: the hub names no commit for revision {revision or 'main'}")
        return Revision(found.sha, local=False, files=frozenset(x.rfilename for x in found.siblings or []))
    return _cached(name, model_id, revision, why)


def _no_folder(name: str, model_id: str) -> None:
    """Refuse a path: transformers would read a folder of that name before the hub's repository."""
    path = Path(model_id).expanduser()
    if path.exists() or model_id.startswith((".", "~")) or path.is_absolute():
        own = f"; a model in a folder is model=local model.path={model_id}" if name.startswith("model.id=") else ""
        raise UserError(
            f"{name}: a local path, and a repository of the hub reads OWNER/NAME{own} (if the repository was meant: "
            "start where no folder has this name)"
        )


def _cached(name: str, model_id: str, revision: str | None, why: str) -> Revision:
    with load_errors(model_id, revision, local=True, key=name.partition("=")[0]):
        folder = snapshot(model_id, revision)
        main = snapshot(model_id, None) if folder is None and revision else None
    if folder is not None:
        files = frozenset(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
        return Revision(folder.name, local=True, files=files)  # <cache>/snapshots/<commit>
    if main is not None:
        raise UserError(
            f"model.revision={revision}: not in the local cache and not to be downloaded ({why}); "
            f"of {model_id} it holds main ({main.name}): leave model.revision out"
        )
    folders = name.startswith(("model.adapter=", "circuit.path="))
    other = "a folder that is there" if folders else "model=smollm2_135m"
    raise UserError(
        f"{name}: not in the local cache and not to be downloaded ({why}); run once with a network, or type {other}"
    )
