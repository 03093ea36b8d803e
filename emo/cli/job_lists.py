"""The jobs of an experiment: lists of overrides that belong together (``hydra.sweeper.jobs``).

A grid cannot say "circuits with replies, ablations with projections only, each with its own k". A list of jobs can:

    jobs: ["intervention=circuit", "intervention=ablate_neurons evaluator=projection intervention.k=[0,2,8]"]

Every job runs at every point of the sweep's grid (``model=A,B``). Of a key given several times the later word wins:
the preset's own value, its grid, the job, the command line. A value with commas (``circuit.budget=300,600``) is one job
each.
"""

from __future__ import annotations

from collections.abc import Iterable

from emo.core.errors import UserError

KEY = "hydra.sweeper.jobs"
FORM = f"""type a list of texts: '{KEY}=["intervention=steer","intervention=prompt evaluator=margin"]'"""
OPENING, CLOSING, QUOTES = "([{", ")]}", "'\""


def read_jobs(given: object) -> list[list[str]]:
    """Return the overrides of every job, ``KEY=VALUE`` each; no job where nothing is given.

    Args:
        given: a list of texts, overrides separated by spaces; brackets and quotes keep theirs. None: no list.

    Raises:
        UserError: no list of texts, a text without overrides, or one whose brackets or quotes do not close.
    """
    if given is None:
        return []
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UserError(f"{KEY}={given}: not a list; {FORM}")
    jobs = []
    for text in given:
        if not isinstance(text, str) or not text.strip():
            raise UserError(f"{KEY}: {text!r} has no overrides; {FORM}")
        jobs.append(split(text))
    return jobs


def split(text: str) -> list[str]:
    """Return the overrides in ``text``, split at spaces outside of brackets and quotes.

    Raises:
        UserError: an override is no ``KEY=VALUE``, or a bracket or quote does not close.
    """
    words, word, depth, quote = [], "", 0, ""
    for i, character in enumerate(text):
        if quote:
            quote = "" if character == quote and text[i - 1] != "\\" else quote
        elif character in QUOTES:
            quote = character
        else:
            depth += (character in OPENING) - (character in CLOSING)
        if depth < 0:
            break
        if character.isspace() and not depth and not quote:
            words.append(word)
            word = ""
        else:
            word += character
    if depth or quote:
        what = f"quote {quote}" if quote else "bracket"
        raise UserError(f"{KEY}: {text}: a {what} does not close; quote a value that holds one")
    found = [item for item in [*words, word] if item]
    for item in found:
        if "=" not in item.lstrip("+~"):
            raise UserError(f"{KEY}: {text}: {item} is not KEY=VALUE; {FORM}")
    return found


def key_of(override: str) -> str:
    """Return the key of an override, without the sign that adds it: ``intervention.k`` of ``intervention.k=[0,2]``."""
    return override.partition("=")[0].lstrip("+~")
