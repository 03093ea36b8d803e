"""A preset from the command line, on tiny models."""

from __future__ import annotations

from pathlib import Path

from support import command
from support.jobs import overrides

OWN = ("intervention.alpha", "evaluator")  # the preset's, or steering's, not those of other tests


def run(folder: Path, *words: str) -> str:
    """Run a preset on tiny models in ``folder`` and return what it prints."""
    given = [word for word in overrides(folder, "console=rich") if word.partition("=")[0] not in (*OWN, "model")]
    unread = {w.partition("=")[0] for w in words}  # and what a preset's jobs do not read, which would be refused
    unread |= {"evaluator.kl_tokens", "generation.max_new_tokens"} if "evaluator=projection" in words else set()
    unread |= {"intervention.layers"} if "sweeps=llama_vs_qwen" in words else set()
    kept = [word for word in given if word.partition("=")[0] not in unread]
    done = command.run(folder, *kept, *words, COLUMNS="200")
    assert done.returncode == 0, done.stderr
    return done.stdout
