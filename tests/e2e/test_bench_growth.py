"""How cost grows: the fits on known curves, and what a sample, a condition and a block cost in tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import growth
from bench.growth import Cost, Job, exponent, line_of, token_slope

pytestmark = pytest.mark.long  # forward passes, many times


def test_an_exponent_is_that_of_the_curve() -> None:
    x = [8, 16, 32, 64]
    assert exponent(x, [3 * v**1.5 for v in x]).slope == pytest.approx(1.5)
    assert exponent(x, [3 * v**1.5 for v in x]).half == pytest.approx(0, abs=1e-6)
    noisy = exponent(x, [3 * v * f for v, f in zip(x, (1.2, 0.9, 1.1, 1), strict=True)])
    assert noisy.slope - noisy.half < 1 < noisy.slope + noisy.half
    assert str(line_of([0, 1, 2], [1, 3, 5])) == "2.00 [2.00, 2.00]"


def test_a_condition_is_counted_in_tokens_of_a_prompt() -> None:
    """Two samples of 64 tokens at 3 seconds a token, and conditions that cost two tokens each."""
    conditions = [8, 16, 32]
    taken = [2 * 3 * (growth.TOKENS + 2 * c) for c in conditions]
    assert token_slope(conditions, taken, samples=2).slope == pytest.approx(2)


@pytest.mark.usefixtures("quiet")
def test_what_is_forwarded_grows_as_it_should() -> None:
    """A condition is one token more of each sample, a sample as many as any other, a block as many operations."""
    small = Job(samples=3, conditions=4, blocks=2, width=64)
    base = growth.cost(small, 1)
    assert base.tokens == 3 * (growth.TOKENS - 1 + 4)
    assert growth.cost(small._replace(conditions=9), 1).tokens == base.tokens + 3 * 5
    assert growth.cost(small._replace(samples=6), 1).tokens == 2 * base.tokens
    assert growth.cost(small._replace(blocks=4), 1).operations == 2 * base.operations
    assert growth.cost(small._replace(width=128), 1).operations == 4 * base.operations


def test_findings_are_drawn(tmp_path: Path) -> None:
    """A line and a panel for every curve."""
    sweeps = {name: values[:3] for name, values in growth.SWEEPS.items()}
    costs = {
        name: [Cost(0.1 * v + (6 if name == "conditions" else 0), 16 * (63 + v), v * v, 500) for v in values]
        for name, values in sweeps.items()
    }
    said = growth.findings(costs, sweeps)
    assert list(said) == ["samples", "conditions", "blocks", "width", "memory"]
    assert "samples^1.00 [1.00, 1.00] (expected 1)" in said["samples"]
    assert "tokens forwarded: 1.00 [1.00, 1.00]" in said["conditions"]
    assert "operations ~ width^2.00" in said["width"]
    assert "samples^0.00" in said["memory"] and "500 to 500 MiB" in said["memory"]
    growth.draw(costs, sweeps, said, tmp_path / "new" / "growth.png")
    assert (tmp_path / "new" / "growth.png").read_bytes().startswith(b"\x89PNG")
