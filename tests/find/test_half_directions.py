"""Directions of halves, and how well the data fix them: against loops, on signal and on noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from emo.find.half_directions import half_directions, in_second, reliability

EMOTIONS, LAYERS, WIDTH = 4, 2, 96


def groups(signal: float, n: int = 24) -> tuple[Tensor, list[str]]:
    """Return states whose emotion stands in block 1 only, behind noise, and the scenario of each, three a scenario."""
    draw = torch.Generator().manual_seed(0)
    planted = torch.randn(EMOTIONS, WIDTH, generator=draw)
    x = torch.randn(n, EMOTIONS, LAYERS, WIDTH, generator=draw) + 5 * torch.randn(n, 1, 1, WIDTH, generator=draw)
    x[:, :, 1] += signal * planted
    return x, [f"s{i // 3}" for i in range(n)]


def test_halves_share_no_scenario() -> None:
    second = in_second([f"s{i // 3}" for i in range(24)])
    assert second.sum() == 12 and all(len(set(second[i : i + 3].tolist())) == 1 for i in range(0, 24, 3))


def test_it_is_what_loops_give() -> None:
    states, scenarios = groups(0.7)
    second = in_second(scenarios)
    found, v = reliability(states, second), half_directions(states, second)
    x = states.double().numpy()
    x = x - x.mean(1, keepdims=True)
    for e in range(EMOTIONS):
        for layer in range(LAYERS):
            cosines, dprimes = [], []
            for half, other in ((False, 1), (True, 0)):
                direction = v[other, e, layer].numpy()
                own = [x[g, e, layer] for g in range(len(x)) if bool(second[g]) == half]
                rest = [
                    x[g, f, layer] @ direction
                    for g in range(len(x))
                    for f in range(EMOTIONS)
                    if bool(second[g]) == half and f != e
                ]
                cosines += [y @ direction / np.linalg.norm(y) for y in own]
                along = [y @ direction for y in own]
                dprimes.append((np.mean(along) - np.mean(rest)) / np.sqrt((np.var(along) + np.var(rest)) / 2))
            assert float(found.cosine[e, layer]) == pytest.approx(np.mean(cosines))
            assert float(found.dprime[e, layer]) == pytest.approx(np.mean(dprimes))


def test_noise_is_not_reliable_and_signal_is() -> None:
    """Block 0 holds none: with v from the same groups its d' would be far above 0."""
    states, scenarios = groups(0.7)
    found = reliability(states, in_second(scenarios))
    assert found.cosine[:, 0].abs().max() < 0.12 and found.dprime[:, 0].abs().max() < 1.2
    assert found.cosine[:, 1].min() > 0.3 and found.dprime[:, 1].min() > 2
