"""Where a reply ends on a plain template: at the next turn, which a base model writes as readily as its own.

A model with a chat template ends its turn with a token of its own (`LM.stop_ids`). On the plain template
(`emo.model.prompts.plain_text`) nothing does: the model goes on with a blank line and "Friend: ...". What stands behind
that is no part of the reply: it is neither kept nor labelled nor counted as damage.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from emo.model.chat import has_template
from emo.model.lm import LM

NAMES = {"user": "Friend: ", "assistant": "Reply: ", "system": ""}  # what opens a turn of the plain template
GAP = "\n\n"  # between its turns
STOPS = (GAP, *(f"\n{name.strip()}" for name in NAMES.values() if name))


class TurnEnd(NamedTuple):
    """How replies end on a plain template.

    Attributes:
        text: token id -> its text; remembered, since a reply is looked at with every token.
    """

    text: Callable[[int], str]

    def reached(self, reply: list[int]) -> bool:
        """Return whether another turn has begun; a reply that is still blank has not begun itself."""
        return self._place(reply) is not None

    def cut(self, reply: list[int]) -> list[int]:
        """Return the tokens that begin in front of the next turn, without the blank ones at their end."""
        place, start, kept = self._place(reply), 0, []
        for token in reply:
            if place is None or start < place:
                kept.append(token)
            start += len(self.text(token))
        while kept and not self.text(kept[-1]).strip():
            kept.pop()
        return kept

    def _place(self, reply: list[int]) -> int | None:
        """Return the letter at which the next turn begins."""
        written = "".join(map(self.text, reply))
        first = len(written) - len(written.lstrip())
        return min((at for stop in STOPS if (at := written.find(stop, first)) >= 0), default=None)


def turn_end(lm: LM) -> TurnEnd | None:
    """Return what ends the replies of ``lm`` beside its end token; None where its chat template has a token for it."""
    if has_template(lm):
        return None
    texts: dict[int, str] = {}

    def text(token: int) -> str:
        if token not in texts:
            texts[token] = str(lm.tokenizer.decode([token]))
        return texts[token]

    return TurnEnd(text)
