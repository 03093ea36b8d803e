"""Tensor functions are checked in tests: a wrong shape is refused where it is handed over, not three calls later."""

from __future__ import annotations

import sys

import pytest
import torch
from jaxtyping import TypeCheckError
from support.typechecked import MODULES

from emo.find.attribution import stability
from emo.find.directions import cosines
from emo.find.reference import similarity
from emo.find.sublayer_importance import rank_stability
from emo.model.ops import Add


def test_wrong_shapes_are_refused() -> None:
    v = torch.randn(3, 4, 2, 8)
    assert cosines(v).shape == (4, 2, 3, 3) and similarity(v).shape == (3, 8, 8)
    for wrong in (lambda: cosines(v[0]), lambda: similarity(v[:, :, :1]), lambda: rank_stability(v[..., :1]),
                  lambda: stability(v[..., 0], 1), lambda: cosines(v.long())):  # fmt: skip
        with pytest.raises(TypeCheckError):
            wrong()


def test_parameters_of_an_op_fit_each_other() -> None:
    """A strength per condition, and a vector for each."""
    which = torch.tensor([0, 1])
    add = Add(torch.eye(4), which, torch.ones(2))
    x, gain = torch.ones(1, 3, 4), torch.ones(1, 3, 1)
    assert add(x, torch.zeros(1, 3, dtype=torch.long), gain).shape == x.shape
    with pytest.raises(TypeCheckError):
        Add(torch.eye(4), which, torch.ones(3))
    with pytest.raises(TypeCheckError):
        add(x, torch.zeros(1, 2, dtype=torch.long), gain)


def test_all_of_them_are_checked() -> None:
    assert all(type(sys.modules[name].__loader__).__name__ == "_JaxtypingLoader" for name in MODULES)
