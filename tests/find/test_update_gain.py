"""Doses of circuits are those that arrive, also where a norm stands behind a sublayer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.jobs import config

from emo.core.types import Site
from emo.find.contributions import added, projection
from emo.find.update_gain import update_gains
from emo.model.capture import activations
from emo.model.lm import LM
from emo.model.prefixes import Text
from emo.pipeline.scenario import Job

pytestmark = pytest.mark.usefixtures("quiet")
PROMPTS = [[5, 6, 7, 8, 9], [9, 8, 7]]


@pytest.mark.parametrize("family", ["gemma2", "gemma3", "olmo2"])
@pytest.mark.parametrize("site", [Site.HEAD, Site.NEURON])
def test_a_small_push_arrives_as_said(family: str, site: Site, models: dict[str, LM]) -> None:
    """Against the norm itself, applied to the output with and without the push; its part along the output goes."""
    lm, layer = models[family], 2
    gains = update_gains(lm, PROMPTS[:1], 4)
    assert gains is not None and gains.shape == (lm.n_layers, 2, lm.d)
    weight, bias = projection(lm, site, layer)

    [batch] = activations(lm, [Text(PROMPTS[0])], 4, "read", [site])
    x = batch.at[site][:, layer]
    out = x @ weight.T + bias
    push = torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(0))
    across = weight @ push
    across = across - out[0] * (across @ out[0]) / (out[0] @ out[0])  # what a norm does not take away
    step = 1e-3 * float(out.norm() / across.norm())
    at_input = torch.linalg.lstsq(weight, across[:, None]).solution[:, 0]
    arrived = (added(lm, site, layer, x + step * at_input) - added(lm, site, layer, x))[0] / step
    expected = gains[layer, int(site is Site.NEURON)] * (weight @ at_input)
    assert float((arrived - expected).norm() / expected.norm()) < 0.02


@pytest.mark.parametrize("family", ["llama", "gemma2", "olmo2"])
def test_the_matched_arm_moves_states_as_far_as_the_circuit(family: str, tmp_path: Path) -> None:
    """Measured on the live states: without the norm's gain the two differed by its size."""
    words = ("intervention=circuit", "intervention.scale=0.02", "circuit.dose=rel", "circuit.budget=20")
    job = Job(config(tmp_path, f"model=tiny_{family}", *words, "control.circuits=[random_circuit]"))
    measured = {arm: [row["dose"] for row in rows] for arm, rows in job.doses.items()}
    for arm in ("circuit", "random_circuit"):
        assert sum(measured[arm]) / len(measured[arm]) == pytest.approx(0.02, rel=0.35)


def test_addresses_elsewhere_are_as_they_were(tmp_path: Path) -> None:
    """Only where norms stand behind sublayers do doses mean something new."""
    for family, behind in (("llama", False), ("gemma3", True), ("gpt2", False)):
        assert Job(config(tmp_path, f"model=tiny_{family}", "intervention=circuit")).behind_norms is behind
