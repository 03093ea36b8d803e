"""The scripts of a page, and the content policy that allows these and nothing else.

A page forbids itself everything by default: no network, no script but those whose sha256 stands in its policy, none
made from text. What scripts read are data blocks, JSON in which no character can end the block.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

WEB = Path(__file__).parent / "web"
# Beside what would end a block: line separators, which end a line in the expressions of Vega.
ESCAPES = {ord(letter): f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"}


def data_block(name: str, value: Any, kind: str = "id") -> str:
    """Return a value as a block of escaped JSON, found by its id (or by its class).

    Raises:
        ValueError: it holds what JSON cannot.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).translate(ESCAPES)
    return f'<script type="application/json" {kind}="{name}">{text}</script>\n'


@cache
def web_file(name: str) -> str:
    """Return one of the page's own files."""
    return (WEB / name).read_text(encoding="utf-8")


def script_block(name: str) -> str:
    """Return one of the page's own scripts, as it stands in the page."""
    return f"<script>{web_file(f'{name}.js')}</script>\n"


def policy(names: Sequence[str], digests: Sequence[str], linked: bool) -> str:
    """Return the content policy of a page.

    Args:
        names: its own scripts.
        digests: of other scripts, base64 of their sha256.
        linked: it shows images that lie beside it.
    """
    own = [base64.b64encode(hashlib.sha256(web_file(f"{name}.js").encode("utf-8")).digest()).decode() for name in names]
    allowed = " ".join(f"'sha256-{digest}'" for digest in (*own, *digests))
    images = "data: 'self' file:" if linked else "data:"
    return (
        f"default-src 'none'; connect-src 'none'; base-uri 'none'; form-action 'none'; img-src {images}; "
        f"style-src 'unsafe-inline'; script-src {allowed or chr(39) + 'none' + chr(39)}"
    )
