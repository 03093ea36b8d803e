"""Find, test and control the machinery of emotion in language models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def load_results(folder: str | Path) -> pd.DataFrame:
    """Return the finished results below ``folder`` as a table: `emo.table.load_results`."""
    from emo.table import load_results as load  # pandas only where it is needed

    return load(folder)
