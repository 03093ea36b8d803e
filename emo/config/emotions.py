"""Which emotions a job may ask for: Ekman's six, or a user's own where nothing needs what only the six have.

The six have a class in the offline classifier, held-out replies (for margins), example replies and priming passages.
Any other name can be elicited by words, projected, and labelled by a judge that is told what it means (methods 1.14.3).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from emo.config.choices import BUILDS
from emo.config.interventions import scale_tuned, steers
from emo.config.kinds import on_classes
from emo.config.schema import Config
from emo.core.errors import UserError, nearest
from emo.core.types import NEUTRAL

EKMAN6 = ("anger", "sadness", "happiness", "fear", "surprise", "disgust")
JOINERS = " -_\u200d\ufe0f"  # inside of a name; the last two within an emoji


def outside_six(names: Sequence[str]) -> list[str]:
    """Return the names that are none of Ekman's six."""
    return [name for name in names if name not in EKMAN6]


def is_name(name: str) -> bool:
    """Return whether an emotion can be called so, in any script: no slash, @ or =, since names stand in metrics."""
    kinds = [unicodedata.category(character) for character in name]
    inside = all(k[0] in "LMN" or k in ("So", "Sk") or c in JOINERS for c, k in zip(name, kinds, strict=True))
    return bool(name) and (kinds[0][0] in "LN" or kinds[0] == "So") and inside


def check_emotions(config: Config) -> None:
    """Check names, words and descriptions, and that nothing needs a class or texts that a name does not have.

    Raises:
        UserError: the line names the emotion and what to type.
    """
    names = config.emotions.names
    for name in names:
        if not is_name(name) or name == NEUTRAL:
            raise UserError(f"emotions.names: '{name}' is no name of an emotion; type letters, digits, spaces and -")
    if len(set(names)) < max(2, len(names)):
        raise UserError(f"emotions.names=[{','.join(names)}]: at least two are needed, none twice")
    texts = {"emotions.words": config.emotions.words, "emotions.descriptions": config.emotions.descriptions}
    for key, given in (texts | {"elicitation.words": config.elicitation.words}).items():
        for name, text in (given or {}).items():
            if name not in names:
                raise UserError(f"{key}: {name} is not one of emotions.names, {', '.join(names)}{nearest(name, names)}")
            if not text.strip():
                raise UserError(f"{key}.{name}: empty; type a text or leave the key out")
    others, needs = outside_six(names), {} if config.task in BUILDS or on_classes(config) else dict(_needs(config))
    if others and needs:
        near = next((hint for name in others if (hint := nearest(name, EKMAN6))), "")
        raise UserError(
            f"emotions.names: {', '.join(others)} not one of {', '.join(EKMAN6)}{near}; {' and '.join(needs)} "
            f"knows only these; for others type {' '.join(needs.values())}"
        )


def _needs(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (setting that needs what only the six have, what to type instead)."""
    evaluator, asked, given = config.evaluator.name, config.elicitation, config.intervention
    if evaluator in ("classifier", "hf_classifier", "margin"):
        yield f"evaluator={evaluator}", "evaluator=projection (or openai_judge)"
    if asked.template in ("few_shot", "priming"):
        yield f"elicitation={asked.template}", "elicitation=paper (or persona)"
    if asked.accept == "judged":
        yield "elicitation.accept=judged", "elicitation.accept=all"
    if scale_tuned(config):  # strengths are chosen by labels or margins
        yield "intervention.scale=auto", "intervention.scale=NUMBER"
    if steers(config):
        if given.alpha == "auto":
            yield "intervention.alpha=auto", "intervention.alpha=NUMBER"
        if given.layers == "auto":
            yield "intervention.layers=auto", "intervention.layers=RANGE"
