"""The reference basis by hand: signs, the average, cosines and their order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from emo.find.reference import reference, similarity, stable_cosines


def plane(*degrees: float) -> Tensor:
    """Return unit vectors (1, l, 2, 2) at these angles: attention 0, MLP 0, attention 1, ..."""
    angle = torch.tensor(degrees).deg2rad()
    return torch.stack([angle.cos(), angle.sin()], -1).view(1, -1, 2, 2)


def at(degrees: float) -> Tensor:
    return plane(degrees, degrees)[:, 0, 0]


def test_the_average_of_the_stable_blocks() -> None:
    """A block that is not stable, or a sublayer, that counts; no unit length."""
    found = reference(plane(200, 100, 30, 50, 50, 70, -80, 90), [1, 2])
    torch.testing.assert_close(found.v_ref, at(50))
    torch.testing.assert_close(found.v_ref.norm(), torch.tensor(1.0))
    assert found.sign.tolist() == [[[-1, 1], [1, 1], [1, 1], [-1, 1]]]


def test_signs_follow_attention_of_the_first_stable_block() -> None:
    """Aligned with another block or with the MLP, all would point the other way."""
    found = reference(plane(10, 10, 30 + 180, 50, 50, 70, 10, 20), [1, 2])
    torch.testing.assert_close(found.v_ref, at(50 + 180))
    assert found.sign.tolist() == [[[-1, -1], [1, -1], [-1, -1], [-1, -1]]]
    torch.testing.assert_close(reference(plane(10, 10, 30, 50, 50 + 180, 70, 10, 20), [1, 2]).v_ref, at(50))


def test_every_emotion_has_its_own() -> None:
    v = torch.cat([plane(0, 0, 30, 50), plane(0, 180, 90, 110)])
    found = reference(v, [1])
    torch.testing.assert_close(found.v_ref, torch.cat([at(40), at(100)]))
    assert found.sign.tolist() == [[[1, 1], [1, 1]], [[-1, 1], [1, 1]]]


def test_a_right_angle_is_not_turned() -> None:
    """The sign of zero would delete the vector."""
    v = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    found = reference(v, [0])
    torch.testing.assert_close(found.v_ref, at(45))
    v = torch.tensor([[[[0.0, 1.0], [0.0, -1.0]], [[1.0, 0.0], [1.0, 0.0]]]])
    assert reference(v, [1]).sign.tolist() == [[[1, 1], [1, 1]]]


def test_cosines_in_the_order_of_the_model() -> None:
    """Attention and MLP in turn; not all attention first."""
    [cosines] = similarity(plane(0, 60, 90, 180))
    assert cosines.shape == (4, 4)
    torch.testing.assert_close(cosines.diagonal(), torch.ones(4))
    torch.testing.assert_close(cosines[0], torch.tensor([1, 0.5, 0, -1]), atol=1e-6, rtol=0)
    torch.testing.assert_close(cosines, cosines.T)


def test_mean_and_minimum_over_pairs_of_stable_sublayers() -> None:
    """The diagonal, or a block that is not stable, would make them larger."""
    v = plane(0, 0, 0, 60, 90, 180, 0, 0)
    mean, least = stable_cosines(v, [1, 2])
    pairs = torch.tensor([60.0, 90, 180, 30, 120, 90]).deg2rad().cos()
    torch.testing.assert_close(mean, pairs.mean()[None])
    torch.testing.assert_close(least, torch.tensor([-1.0]))
    mean, least = stable_cosines(v, [1])
    assert mean.item() == least.item() == pytest.approx(0.5)


def test_no_stable_block_is_refused() -> None:
    for call in (reference, stable_cosines):
        with pytest.raises(ValueError, match="no stable block"):
            call(plane(0, 0), [])
