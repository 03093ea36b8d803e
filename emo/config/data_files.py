"""Which datasets there are by name, which of them need a file, and whether it is there."""

from __future__ import annotations

from pathlib import Path

from emo.config.choices import DELIMITER_NAMES, READABLE
from emo.config.schema import DatasetConfig
from emo.core.errors import UserError, check_choice

SHIPPED = ("sev", "sev_test", "open_prompts", "dialogues", "rhetoric")  # datasets that need no file of the user's
GIVEN = (
    "jsonl", "labelled", "dailydialog", "trofi", "hypo", "colbert", "iac_v2", "iemocap", "lcc", "hypo_l", "funlines",
    "mustard", "goemotions", "goemotions_raters", "empathetic_dialogues", "meld", "isear", "aipsy_affect",
)  # fmt: skip


def check_files(given: DatasetConfig) -> None:
    """Check the section dataset: that its files are there, and how they are to be read.

    Raises:
        UserError: a file that is needed is not given or not there, or a value cannot be.
    """
    if given._target_ is None:
        check_choice("dataset.name", given.name, (*SHIPPED, *GIVEN))
    elif given.path is None and given.name not in GIVEN:
        raise UserError(f"dataset._target_={given._target_}: which file? type dataset.path=FILE too")
    if given.name in GIVEN and given.path is None:
        kind = "FILE.jsonl" if given.kind == "scenarios" else f"FILE, a {READABLE}"
        kind = kind if given._target_ is None else "FILE, as it is published (docs/data.md)"
        raise UserError(f"dataset={given.name} needs dataset.path={kind}")
    for key in ("path", "test_path"):
        path = getattr(given, key)
        if path is not None and not Path(path).expanduser().exists():
            raise UserError(f"dataset.{key}={path}: no such file (looked from {Path.cwd()})")
    if given.multilabel is not None:
        check_choice("dataset.multilabel", given.multilabel, ("skip", "first", "agree"))
    mark = given.delimiter
    if mark is not None and mark not in DELIMITER_NAMES and (len(mark) != 1 or mark.isalnum() or mark in "\"'\r\n"):
        raise UserError(f"dataset.delimiter={mark}: type one character, or {', '.join(DELIMITER_NAMES)}")
