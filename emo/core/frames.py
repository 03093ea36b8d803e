"""pandas, with texts kept as Python's own.

Where pyarrow is installed pandas would keep them as UTF-8, which half a surrogate pair (a byte-level tokenizer can
produce one) cannot be: a whole table would fail for one character.
"""

from __future__ import annotations

import pandas as pd

pd.set_option("mode.string_storage", "python")

__all__ = ["pd"]
