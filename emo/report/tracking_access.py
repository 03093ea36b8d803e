"""Whether Weights & Biases can be used here: its package, a key, and a server that answers.

Asked before anything runs, so that what is missing is one line and not a warning after hours.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from typing import Any

from emo.config.schema import TrackerConfig
from emo.core.errors import UserError

ASK_TIMEOUT = 5.0  # seconds in which a server must answer at all


def check(tracker: TrackerConfig) -> None:
    """Refuse a tracker that cannot work, before anything runs; offline it needs no network.

    Raises:
        UserError: W&B is not installed, or its online mode has no key or no server that answers.
    """
    if tracker.name == "none":
        return
    spec = importlib.util.find_spec("wandb")
    if spec is None or spec.origin is None:  # no origin: a folder of runs named wandb/, which Python would import
        raise UserError(
            "tracker=wandb: the package wandb is not installed; type pip install -c constraints.txt wandb, "
            "or tracker=none"
        )
    if tracker.mode == "online" and not _has_key():
        raise UserError(
            "tracker.mode=online: no key of Weights & Biases in WANDB_API_KEY or ~/.netrc; type "
            "export WANDB_API_KEY=... or wandb login, or tracker.mode=offline"
        )
    if tracker.mode == "online" and (why := _unreachable(_server())):
        raise UserError(
            f"tracker.mode=online: {_server()} does not answer ({why}); type tracker.mode=offline, and later "
            "wandb sync, where there is a network"
        )


def module() -> Any:
    """Return the module, which is imported here only: it takes a second and starts a process."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))  # for all runs, and for lines from outside one, e.g. about keys
    return wandb


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    from wandb.sdk.lib.wbauth import read_netrc_auth  # what init reads; the public wandb.login asks the server

    return bool(module().setup().settings.api_key or read_netrc_auth(host=_server()))


def _server() -> str:
    return str(module().setup().settings.base_url)


@cache
def _unreachable(server: str) -> str:
    """Return why a server does not answer, in a few words; nothing where it does. Asked once in a process."""
    import requests  # comes with wandb, and knows proxies

    try:
        requests.head(server, timeout=ASK_TIMEOUT)
    except requests.RequestException as error:
        return "no answer in time" if isinstance(error, requests.Timeout) else "no connection"
    return ""
