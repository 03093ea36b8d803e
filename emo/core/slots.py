"""Places in a page that are filled after its result was sealed, with what became known later.

What stands between the marks of a slot is left out of the page's digest (`emo.core.sealed`): the page is still what was
written with the result, and taking the content out again gives it back to the last byte. A page escapes every ``<`` of
a model, a dataset or a user, so none of these can write a mark.
"""

from __future__ import annotations

import re

_CONTENT = re.compile(rb"(<!--slot [a-z]+-->).*?(<!--/slot-->)", re.DOTALL)


def slot(name: str, content: str = "") -> str:
    """Return a slot (``name``: small letters) with its content."""
    return f"<!--slot {name}-->{content}<!--/slot-->"


def has_slot(page: str, name: str) -> bool:
    """Whether a page has such a slot; pages of earlier versions have none."""
    return f"<!--slot {name}-->" in page


def filled(page: str, name: str, content: str) -> str:
    """Return a page with other content in one of its slots; as it is where it has no such slot."""
    pattern = re.compile(re.escape(f"<!--slot {name}-->") + ".*?" + re.escape("<!--/slot-->"), re.DOTALL)
    return pattern.sub(lambda _: slot(name, content), page, count=1)


def without(page: bytes) -> bytes:
    """Return a page with empty slots."""
    return _CONTENT.sub(rb"\1\2", page)
