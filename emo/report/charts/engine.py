"""What draws the charts in a reader's browser: Vega, Vega-Lite and Vega-Embed as one script, out of vl-convert.

The script (about 0.9 MB, 0.3 MB packed) is no file of ours: vl-convert makes it from what it carries, without a
network, in some seconds, and it is kept in the user's cache by vl-convert's version.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import os
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from emo.core.console import note
from emo.core.home import cache_home
from emo.core.locks import held

SNIPPET = "window.vegaEmbed = vegaEmbed;"  # what the page's own script calls


class Engine(NamedTuple):
    """The script as a page holds it."""

    packed: str  # gzip, base64
    digest: str  # base64 of the sha256 of the script itself, as a content policy names it


@functools.cache
def engine() -> Engine:
    """Return the script, made on first use.

    Raises:
        ImportError: vl-convert is not installed.
        OSError: the cache cannot be written.
    """
    made_by = version("vl-convert-python")
    path = cache_home() / f"vega-{made_by}.js.gz"
    found = _read(path)
    if found is None:
        with held(path.with_suffix(".lock"), "making the script that draws charts"):
            found = _read(path) or _make(path)  # another process may have made it
    data, script = found
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode("ascii")
    return Engine(base64.b64encode(data).decode("ascii"), digest)


def _read(path: Path) -> tuple[bytes, bytes] | None:
    """Return the packed script and the script; None where it is not there, or damaged."""
    try:
        data = path.read_bytes()
        return data, gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return None


def _make(path: Path) -> tuple[bytes, bytes]:
    import vl_convert

    note(f"the script that draws charts is made once: {path} (seconds)")
    script = vl_convert.javascript_bundle(SNIPPET).encode("utf-8")
    data = gzip.compress(script, 9, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(data)
    os.replace(partial, path)
    return data, script
