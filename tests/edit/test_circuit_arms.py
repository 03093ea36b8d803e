"""Arms on circuits: which units every control edits, by how much, where, and beside arms of another kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from support import twin
from support.circuits import EMOTIONS, circuit
from support.twin import PROMPT, gap, observe
from support.units import PROMPTS, naive
from torch import Tensor

from emo.config.choices import CIRCUIT_CONTROLS, STEERING, UNITS
from emo.config.schema import Config
from emo.core.types import Site, Tokens
from emo.edit.banks import Bank, CircuitBank
from emo.edit.base import Arm, Plan, plan
from emo.edit.circuit_arms import circuit_arms
from emo.edit.circuits import CircuitArm, parts_of, plan_circuits
from emo.find.circuit import SITES, Shape
from emo.measure.dose import doses
from emo.measure.projections import projections
from emo.model.generate import generate
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.passes import Row

pytestmark = pytest.mark.usefixtures("quiet")
FAMILIES = pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
ADDED = {"neurons": Site.MLP_ADD, "heads": Site.ATTN_ADD}
BEHIND = {"neurons": Site.RESID_POST, "heads": Site.RESID_MID}
E = len(EMOTIONS)


def bank_of(lm: LM) -> CircuitBank:
    """Return a random circuit of a model, other units' vectors, and what states are long behind its sublayers."""
    shape, draw = Shape.of(lm), torch.Generator().manual_seed(9)
    deltas = {
        kind: torch.randn(E, shape.n_layers, units * width, generator=draw)
        for kind in UNITS
        for units, width in [shape.units(kind)]
    }

    def norms() -> Tensor:
        wanted = [(BEHIND[kind], layer) for layer in range(lm.n_layers) for kind in ("heads", "neurons")]
        seen = observe(lm, wanted)
        return torch.stack([seen[place][0, PROMPT - 1].norm() for place in wanted]).view(-1, 2)

    return CircuitBank(
        circuit(shape, counts=(30, 7)), deltas.__getitem__, norms, lambda kind, at: lm.projection(SITES[kind], at)[0]
    )


def job(kind: str, head_tokens: str = "every_step") -> Config:
    """Return what `circuit_arms` reads of a job with every control."""
    made = Config()
    made.intervention.kind, made.intervention.tokens, made.circuit.head_tokens = kind, "every_step", head_tokens
    made.control.seeds, made.control.score_seeds, made.control.circuits = 2, 3, list(CIRCUIT_CONTROLS)
    return made


def made_by(kind: str, scale: Any = 0.7, head_tokens: str = "every_step", **changes: Any) -> CircuitArm:
    """Return the arm of one kind as a job makes it."""
    own = job("ablate_circuit" if kind == "ablate_circuit" else "circuit", head_tokens)
    arms = {arm.name: arm for arm in circuit_arms(own, (0, 1, 2, 3), E, scale, False)}
    return replace(arms[kind], **changes)


def added(edits: list[Edit], site: Site, layer: int, cond: int, width: int) -> Tensor:
    """Return what the edits of a place add to zeros under a condition."""
    x = torch.zeros(1, 1, width)
    for edit in edits:
        if (edit.site, edit.layer) == (site, layer):
            x = edit.op(x, torch.tensor([[cond]]), torch.ones(1, 1, 1))
    return x[0, 0]


def counts(arm: CircuitArm, bank: CircuitBank, emotion: int, seed: int) -> dict[str, list[int]]:
    """Return how many units an arm edits in every block."""
    parts = parts_of(arm, bank, emotion, seed, 0)
    return {
        kind: torch.bincount(part.layer, minlength=bank.circuit.shape.n_layers).tolist() for kind, part in parts.items()
    }


def test_quotas_of_every_control(models: dict[str, LM]) -> None:
    """As many in every block; of another emotion's circuit that one's; of one kind alone nothing of the other."""
    bank = bank_of(models["llama"])
    quotas = {kind: bank.circuit.quotas(kind) for kind in UNITS}
    for name in ("circuit", "random_circuit", "shuffled_circuit", "circuit_neurons", "circuit_heads", "prompt_circuit"):
        arm = made_by(name)
        wanted = {"circuit_neurons": ("neurons",), "circuit_heads": ("heads",)}.get(name, UNITS)
        for seed, e in arm.conditions(E, scored=True):
            assert counts(arm, bank, e or 0, seed) == {kind: quotas[kind][e or 0] for kind in wanted}, name
    other = made_by("other_circuit")
    assert other.conditions(E, scored=True) == [(seed, e) for seed in range(E - 1) for e in range(E)]
    for e in range(E):
        own = [counts(other, bank, e, seed)["neurons"] for seed in range(E - 1)]
        assert own == [quotas["neurons"][(e + 1 + seed) % E] for seed in range(E - 1)]


def test_every_control_of_a_job_is_one_of_these() -> None:
    """A name in control.circuits that makes no arm would be left out in silence."""
    kinds = {arm.kind for arm in circuit_arms(job("circuit"), (0,), E, 1.0, False)}
    assert kinds == {"circuit", *CIRCUIT_CONTROLS} - set(STEERING)
    ablated = circuit_arms(job("ablate_circuit"), (0,), E, 1.0, False)
    assert [arm.kind for arm in ablated] == ["ablate_circuit", "random_circuit", "other_circuit"]
    assert all(arm.op == "zero" and arm.prompted and arm.reference == "prompt" for arm in ablated)
    both = circuit_arms(job("prompt_circuit"), (0,), E, [0.5, 1.0], True)
    assert [arm.name for arm in both[:4]] == [
        f"{kind}@scale={s}" for kind in ("circuit", "prompt_circuit") for s in ("0.5", "1")
    ]
    assert [arm.prompted for arm in both[:4]] == [False, False, True, True]


def test_every_condition_adds_its_own_vectors(models: dict[str, LM]) -> None:
    """Against a loop over units: one emotion, seed, block or strength taken for another; heads' columns."""
    lm = models["llama"]
    bank = bank_of(lm)
    arms = [made_by(name, [0.5, -1.0, 2.0]) for name in ("circuit", "random_circuit", "other_circuit", "circuit_heads")]
    made = plan_circuits(arms, bank, 0)
    conds = [(arm, seed, e) for arm in arms for seed, e in arm.conditions(E, scored=True)]
    assert sorted(made.cond.values()) == list(range(len(conds)))
    for arm, seed, e in conds:
        parts = parts_of(arm, bank, e or 0, seed, 0)
        for kind in UNITS:
            units, width = bank.circuit.shape.units(kind)
            wanted = torch.zeros(lm.n_layers, units * width)
            if kind in parts:
                for layer, unit, delta in zip(parts[kind].layer, parts[kind].unit, parts[kind].delta, strict=True):
                    wanted[layer, unit * width : (unit + 1) * width] = (0.5, -1.0, 2.0)[e or 0] * delta
            for layer in range(lm.n_layers):
                found = added(made.edits, SITES[kind], layer, made.cond[arm.name, seed, e], units * width)
                assert torch.allclose(found, wanted[layer], atol=1e-6), (arm.name, seed, e, kind, layer)


@FAMILIES
def test_controls_move_every_sublayer_as_far_as_the_circuit(models: dict[str, LM], family: str) -> None:
    """Read behind the model's own modules, one edited place at a time."""
    lm = models[family]
    bank = bank_of(lm)
    arms = [made_by(name) for name in ("circuit", "random_circuit", "shuffled_circuit")]
    made = plan_circuits(arms, bank, 0)
    conds = torch.tensor(sorted(made.cond.values()))[:, None].expand(-1, twin.LENGTH)
    compared = 0
    for edit in made.edits:
        kind = "heads" if edit.site is Site.HEAD else "neurons"
        place = (ADDED[kind], edit.layer)
        plain, edited = observe(lm, [place])[place], observe(lm, [place], [edit], conds)[place]
        change = edited[:, PROMPT - 1] - plain[0, PROMPT - 1]
        for arm in arms[1:]:
            for seed, e in arm.conditions(E, scored=True):
                assert e is not None
                own = change[made.cond["circuit", 0, e]]
                theirs = change[made.cond[arm.name, seed, e]]
                assert float(theirs.norm()) == pytest.approx(float(own.norm()), rel=1e-3, abs=1e-5), (arm.name, place)
                assert float(own.norm()) == pytest.approx(
                    0.7 * float(bank.push(bank.circuit.part(kind, e), kind, edit.layer).norm()), rel=1e-3, abs=1e-5
                )
                compared += float(own.norm()) > 0
    assert compared > 50


def test_what_controls_are_made_of(models: dict[str, LM]) -> None:
    """Random units have their own vectors, all of a block times one factor; shuffled ones the circuit's values."""
    bank = bank_of(models["llama"])
    drawn = {seed: parts_of(made_by("random_circuit"), bank, 1, seed, 0) for seed in (0, 1)}
    mixed = parts_of(made_by("shuffled_circuit"), bank, 1, 0, 0)
    for kind in UNITS:
        own, part, units = bank.circuit.part(kind, 1), drawn[0][kind], bank.circuit.shape.units(kind)
        assert not torch.equal(part.unit, own.unit) and not torch.equal(part.unit, drawn[1][kind].unit)
        part.check(bank.circuit.shape.n_layers, *units)  # none twice
        theirs = bank.delta(kind)[1].unflatten(-1, units)[part.layer, part.unit]
        assert torch.equal(mixed[kind].unit, own.unit) and torch.equal(mixed[kind].layer, own.layer)
        assert not torch.allclose(mixed[kind].delta, own.delta)
        for layer in own.layer.unique():
            factor = part.delta[part.layer == layer] / theirs[part.layer == layer]
            assert float(factor.min()) > 0 and gap(factor, factor.flatten()[0].expand_as(factor)) <= 1e-4
            here = own.layer == layer
            values, before = (x[here].abs().flatten().sort().values for x in (mixed[kind].delta, own.delta))
            assert gap(values / values[-1], before / before[-1]) <= 1e-5


def test_one_kind_alone_edits_no_other(models: dict[str, LM]) -> None:
    bank = bank_of(models["llama"])
    for name, site in (("circuit_neurons", Site.NEURON), ("circuit_heads", Site.HEAD)):
        assert {edit.site for edit in plan_circuits([made_by(name)], bank, 0).edits} == {site}


def test_a_relative_dose_is_the_dose_that_is_measured(models: dict[str, LM]) -> None:
    """Within 15 %: the unit is the length of emotion-free states, measured is the edited run."""
    lm = models["llama"]
    bank = bank_of(lm)
    arms = [made_by(name, 0.05, dose="rel") for name in ("circuit", "random_circuit", "circuit_heads")]
    made = plan_circuits(arms, bank, 0)
    rows = [Row(0, cond) for cond in sorted(made.cond.values())]
    found = doses(lm, [twin.IDS[:PROMPT]], rows, made.edits, 64, "doses")
    assert ((found / 0.05 - 1).abs() < 0.15).all(), found
    raw = plan_circuits([made_by("circuit", 0.05)], bank, 0)
    assert ((doses(lm, [twin.IDS[:PROMPT]], [Row(0, 0)], raw.edits, 64, "doses") / 0.05 - 1).abs() > 0.3).all()


def test_heads_can_be_edited_at_every_position(models: dict[str, LM]) -> None:
    """Neurons from the last prompt token on in either case; a block that is skipped is left alone."""
    lm = models["llama"]
    bank = bank_of(lm)
    for head_tokens, early in (("every_step", False), ("all", True)):
        made = plan_circuits([made_by("circuit", head_tokens=head_tokens)], bank, 0)
        for kind, moved in (("heads", early), ("neurons", False)):
            site, layer = SITES[kind], int(bank.circuit.part(kind, 0).layer[0])  # where condition 0 has a unit
            own = [edit for edit in made.edits if (edit.site, edit.layer) == (site, layer)]
            change = observe(lm, [(site, layer)], own)[site, layer] - observe(lm, [(site, layer)])[site, layer]
            assert bool(change[0, 3].any()) is moved
            assert bool(change[0, PROMPT - 1].any()) and bool(change[0, PROMPT + 2].any())
    layers = {edit.layer for edit in plan_circuits([made_by("circuit")], bank, 0, skip_layer=2).edits}
    assert layers == {0, 1, 3}
    kinds = {made_by("circuit", head_tokens=x).head_tokens for x in ("every_step", "all")}
    assert kinds == {Tokens.EVERY_STEP, Tokens.ALL}


def test_an_ablated_circuit_is_zero(models: dict[str, LM]) -> None:
    """Its units and no other; what is zeroed has no strength."""
    lm = models["llama"]
    bank = bank_of(lm)
    made = plan_circuits([made_by("ablate_circuit"), made_by("other_circuit", op="zero")], bank, 0)
    for edit in made.edits:
        kind = "heads" if edit.site is Site.HEAD else "neurons"
        units, width = bank.circuit.shape.units(kind)
        for (name, seed, e), cond in made.cond.items():
            assert e is not None
            source = e if name == "ablate_circuit" else (e + 1 + seed) % E
            out = edit.op(torch.ones(1, 1, units * width), torch.tensor([[cond]]), torch.ones(1, 1, 1))[0, 0]
            wanted = torch.ones(units * width)
            wanted[bank.circuit.part(kind, source).at(edit.layer)[0]] = 0
            assert torch.equal(out, wanted)


def test_steering_and_circuits_share_a_plan(models: dict[str, LM]) -> None:
    """Both together write and score what each does alone."""
    lm = models["llama"]
    v = twin.unit(E, lm.n_layers, lm.d)
    steering = [Arm("steer", "steer", 0.4, (1, 2), "rel"), Arm("random", "random", 0.3, (0, 3), "rel", seeds=2)]
    alone = [
        plan(steering, Bank(v, v[:0, None], twin.unit(2, lm.n_layers, lm.d, seed=4))),
        plan_circuits([made_by("circuit"), made_by("random_circuit")], bank_of(lm), 0),
        plan([Arm("raw", "steer", 3.0, (1,), "raw")], Bank(v, v[:0, None], v[:0])),
    ]
    joined = Plan.joined(alone)
    assert len(joined.cond) == sum(len(made.cond) for made in alone)
    assert sorted(joined.cond.values()) == list(range(len(joined.cond)))
    for made in alone:
        rows, theirs = ([Row(p, own.cond[key]) for p in (0, 2) for key in made.cond] for own in (made, joined))
        one, _ = projections(lm, PROMPTS, rows, made.edits, v, 64)
        both, _ = projections(lm, PROMPTS, theirs, joined.edits, v, 64)
        assert gap(both, one) <= twin.TOLERANCE
        key = next(iter(made.cond))
        slow = naive(lm, PROMPTS[0], made.edits, made.cond[key], v[:2], Site.RESID_POST)
        assert gap(both[0, :, :2], slow) <= twin.TOLERANCE
        assert generate(lm, PROMPTS, theirs, joined.edits, 4, 64) == generate(lm, PROMPTS, rows, made.edits, 4, 64)
