"""Find, test and control the machinery of emotion in language models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from emo.evaluators.classifier import Classifier
    from emo.models.lm import LM


def load_results(folder: str | Path) -> pd.DataFrame:
    """Return the finished results below ``folder`` as a table: `emo.table.load_results`."""
    from emo.table import load_results as load  # pandas only where it is needed

    return load(folder)


def load_evaluator(name: str = "classifier", store: str | Path | None = None) -> Classifier:
    """Return an evaluator whose ``label(texts)`` gives one emotion or ``neutral`` per text.

    Args:
        name: ``classifier``, the offline one; a judge or a hub model is asked through ``run.py``.
        store: folder that keeps the fitted classifier; default: the store of ``outputs/`` in the repository.

    Raises:
        UserError: another name, or the sentence encoder is not installed.
    """
    from emo import home
    from emo.emotions import EKMAN6
    from emo.errors import check_choice
    from emo.evaluators.classifier import load_classifier
    from emo.store import Store

    check_choice("load_evaluator", name, ("classifier",))
    return load_classifier(Store(store or home.folder() / "outputs" / "store"), EKMAN6)


def load_model(name: str, device: str = "auto", dtype: str = "auto") -> LM:
    """Return a model by its option of ``model=``, or as OWNER/NAME on the hub: `emo.models.named.load_named`."""
    from emo.models.named import load_named  # torch only where it is needed

    return load_named(name, device, dtype)
