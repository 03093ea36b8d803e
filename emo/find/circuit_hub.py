"""Circuits on the hub: read from a repository (the local cache will do), and pushed to one.

Only the three files of a circuit's folder are ever read or sent (`emo.find.circuit_card.FILES`); the token is the
hub library's own business: the environment's HF_TOKEN, or what ``hf auth login`` left.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

from emo.config.model_source import HUB_ID
from emo.core.errors import UserError
from emo.find.circuit import JSON, TENSORS, Circuit
from emo.find.circuit_card import FILES, LICENCE, save_circuit
from emo.model.hub import hub_commit
from emo.model.load_errors import HubUnreachableError, is_connection, load_errors, words

REFUSED = (401, 403)  # statuses of who may not write there


def on_hub(name: str | Path) -> bool:
    """Return whether a name is one of the hub: OWNER/NAME, and nothing here is called so."""
    return HUB_ID.fullmatch(str(name)) is not None and not Path(name).exists()


@lru_cache(maxsize=32)
def hub_folder(name: str, key: str) -> Path:
    """Return the folder of the local cache that holds a circuit of the hub, brought there where it can be.

    Args:
        name: OWNER/NAME.
        key: of the configuration, which an error names.

    Raises:
        UserError: there is no such repository, no circuit in it, or it is neither cached nor reachable.
    """
    found = hub_commit(name, None, key)
    for file in (JSON, TENSORS):
        if file not in found.files:
            raise UserError(f"{key}={name}: no {file} in it; type a repository that emo.circuits.push has written")
    with load_errors(name, found.commit, found.local, key=key):
        folder = snapshot_download(
            name, revision=found.commit, allow_patterns=list(FILES), local_files_only=found.local
        )
    return Path(folder)


def push_circuit(
    circuit: Circuit, name: str, measured: Mapping[str, Any] | None, licence: str = LICENCE, private: bool = True
) -> str:
    """Write a circuit and its card to a repository of the hub, made where it is not there; returns its commit's URL.

    Args:
        circuit: what to push.
        name: OWNER/NAME.
        measured: numbers of its controls, for the card.
        licence: as the hub knows it.
        private: of a repository that is made; one that is there stays as it is.

    Raises:
        UserError: no OWNER/NAME, no token that may write there, or the hub gave no answer.
    """
    if not HUB_ID.fullmatch(name):
        raise UserError(f"push: {name}: no name of a repository; it reads OWNER/NAME")
    if constants.HF_HUB_OFFLINE:
        raise UserError(f"push: {name}: HF_HUB_OFFLINE is set, so nothing is sent; unset it")
    with tempfile.TemporaryDirectory() as folder, _push_errors(name):
        save_circuit(circuit, folder, measured, licence, name)
        api = HfApi()
        api.create_repo(name, repo_type="model", private=private, exist_ok=True)
        told = f"circuit {circuit.digest()[:12]}"
        made = api.upload_folder(
            repo_id=name, repo_type="model", folder_path=folder, allow_patterns=list(FILES), commit_message=told
        )
        return str(made.commit_url)


@contextmanager
def _push_errors(name: str) -> Iterator[None]:
    """Turn what the hub refuses into one line."""
    try:
        yield
    except UserError:
        raise
    except LocalTokenNotFoundError as error:
        raise UserError(f"push: {name}: there is no token; set HF_TOKEN to one that may write") from error
    except HFValidationError as error:
        raise UserError(f"push: {name}: {error}") from error
    except HfHubHTTPError as error:
        if getattr(error.response, "status_code", None) in REFUSED:
            raise UserError(
                f"push: {name}: refused; set HF_TOKEN to one that may write there, or type: hf auth login"
            ) from error
        raise UserError(f"push: {name}: refused by the hub ({words(error)})") from error
    except Exception as error:
        if is_connection(error):
            raise HubUnreachableError(f"push: {name}", words(error)) from error
        raise
