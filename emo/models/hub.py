"""Hugging Face's hub: which commit a name means, and its failures as one line each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.constants import HF_HUB_OFFLINE
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

from emo.errors import UserError

TIMEOUT_S = 10.0  # one request; without a network a user waits for no more than two of them


class HubUnreachableError(UserError):
    """No answer from the hub; ``reason`` says why in a few words."""

    def __init__(self, model_id: str, reason: str) -> None:
        self.reason = reason
        super().__init__(f"model.id={model_id}: could not be read from the hub ({reason}); check the network")


class Revision(NamedTuple):
    """A commit, and whether only the local cache is to be asked for its files."""

    commit: str
    local: bool


def hub_commit(model_id: str, revision: str | None) -> Revision:
    """Return the commit that ``revision`` (default: main) of ``model_id`` stands for.

    Asks the hub; without a network, or with HF_HUB_OFFLINE=1, the cached commit is used. Raises
    `UserError` where the model does not exist, is gated, or is neither cached nor reachable.
    """
    if HF_HUB_OFFLINE:
        return _cached(model_id, revision, "HF_HUB_OFFLINE is set")
    try:
        with hub_errors(model_id):
            sha = HfApi().model_info(model_id, revision=revision, timeout=TIMEOUT_S).sha
    except HubUnreachableError as error:
        return _cached(model_id, revision, error.reason)
    if sha is None:
        raise UserError(f"model.id={model_id}: the hub names no commit for revision {revision or 'main'}")
    return Revision(sha, local=False)


def _cached(model_id: str, revision: str | None, why: str) -> Revision:
    with hub_errors(model_id):
        path = try_to_load_from_cache(model_id, "config.json", revision=revision)
    if not isinstance(path, str):
        raise UserError(
            f"model.id={model_id}: not in the local cache and not to be downloaded ({why}); "
            "run once with a network, or type model=smollm2_135m"
        )
    return Revision(Path(path).parent.name, local=True)  # <cache>/snapshots/<commit>/config.json


@contextmanager
def hub_errors(model_id: str) -> Iterator[None]:
    """Turn the hub's exceptions into a `UserError` of one line."""
    try:
        yield
    except UserError:
        raise
    except GatedRepoError:
        raise UserError(
            f"model.id={model_id}: gated; accept its licence on its hub page, then set HF_TOKEN or type: hf auth login"
        ) from None
    except RevisionNotFoundError:
        raise UserError(f"model.revision: no such revision of {model_id} on the hub") from None
    except RepositoryNotFoundError:
        raise UserError(f"model.id={model_id}: not on the hub (or private: set HF_TOKEN)") from None
    except HFValidationError as error:
        raise UserError(f"model.id={model_id}: {error}; an id reads OWNER/NAME") from None
    except Exception as error:  # httpx, requests, OSError from transformers: whatever carries the connection
        text = " ".join(str(error).split())[:160]
        raise HubUnreachableError(model_id, f"{type(error).__name__}: {text}") from error
