"""JSON objects in what a language model wrote: whatever stands around them, and where only Python can read them."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Iterator
from typing import Any


def objects(content: str) -> Iterator[dict[str, Any]]:
    """Yield every JSON object in a text, and every flat one that only Python can read, keys in lower case."""
    decoder = json.JSONDecoder(strict=False)
    start = content.find("{")
    while start >= 0:
        try:
            found, end = decoder.raw_decode(content, start)
        except (ValueError, RecursionError):
            found, end = _literal(content, start)
        if isinstance(found, dict):
            yield {str(key).lower(): value for key, value in found.items()}
        start = content.find("{", end)


def _literal(content: str, start: int) -> tuple[object, int]:
    """Read ``{'match': True}`` at ``start``: a Python literal without braces inside."""
    flat = re.compile(r"\{[^{}]*\}").match(content, start)
    if flat is None:
        return None, start + 1
    text = re.sub(r"\b(true|false|null)\b", lambda m: {"true": "True", "false": "False"}.get(m[0], "None"), flat[0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stray backslash in a reason is no matter for the terminal
            return ast.literal_eval(text), flat.end()
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None, start + 1
