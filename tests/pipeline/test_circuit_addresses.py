"""What the addresses of jobs on circuits depend on, and what they do not."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pytest
from support.changed import changed
from support.circuits import SHAPE, circuit
from support.jobs import config

from emo.config.schema import CircuitConfig
from emo.pipeline.scenario import Job

pytestmark = pytest.mark.usefixtures("quiet")

OWN = {f"circuit.{key}" for key in asdict(CircuitConfig())} - {"circuit.path", "circuit.allow_other_weights"}
STEERING = {f"intervention.{key}" for key in ("alpha", "layers", "dose", "select.alpha", "select.layers")}
KEPT = {"circuit.dose", "circuit.head_tokens", "circuit.delta_baseline"}  # that a saved circuit reads too
CIRCUITS: dict[str, tuple[tuple[str, ...], set[str], set[str]]] = {  # words, keys that count, keys that do not
    "circuit": (
        (),
        OWN | STEERING | {"intervention.scale", "intervention.select.scale", "control.circuits", "control.seeds"},
        {"circuit.allow_other_weights", "control.arms", "control.units", "intervention.k", "intervention.pool"},
    ),
    "steer": (
        ("intervention=steer",),
        {"intervention.alpha"},
        OWN | {"control.circuits", "intervention.select.scale", "intervention.scale"},
    ),
    "circuit alone": (
        ("control.circuits=[]",),
        OWN | {"intervention.scale", "intervention.tokens", "intervention.decay"},
        STEERING | {"attribution.check"},
    ),
    "ablate_circuit": (
        ("intervention=ablate_circuit",),
        OWN - {"circuit.dose"} | {"control.circuits"},
        STEERING | {"circuit.dose", "intervention.scale", "intervention.select.scale"},
    ),
    "saved": (("saved",), KEPT | STEERING | {"intervention.scale"}, OWN - KEPT | {"circuit.allow_other_weights"}),
    "saved alone": (
        ("saved", "control.circuits=[]"),
        KEPT - {"circuit.delta_baseline"},
        OWN - KEPT | {"circuit.delta_baseline"},
    ),
}


@pytest.mark.parametrize("case", CIRCUITS)
def test_what_a_job_on_circuits_reads(case: str, tmp_path: Path) -> None:
    """Each key that counts changes the address of the result; one that this job does not read leaves it alone."""
    words, counts, idle = CIRCUITS[case]
    circuit(SHAPE, emotions=("anger", "sadness", "fear")).save(tmp_path / "saved")
    given = (f"circuit.path={tmp_path / 'saved'}" if word == "saved" else word for word in words)
    made = config(tmp_path, "dataset.limit=2", "intervention=circuit", *given)
    plain = Job(made).result_address
    for key in sorted(counts | idle):
        assert (Job(changed(made, key)).result_address != plain) == (key in counts), key


def test_which_stages_a_key_of_circuits_changes(tmp_path: Path) -> None:
    """A circuit of another budget is chosen from the same scores; its strength is chosen anew, that of steering not."""
    made = config(tmp_path, "intervention=circuit", "intervention.scale=auto", "intervention.alpha=auto")
    one = Job(made)
    changes = {  # key -> whether attribution, importance, circuit, scale on dev are others
        **{
            f"circuit.{key}": (False, False, True, True)
            for key in ("budget", "split", "floor", "cap", "allocation", "layers")
        },
        **{
            f"circuit.{key}": (False, True, True, True)
            for key in ("push_sizes", "sigma", "importance_at", "reference_layers")
        },
        **dict.fromkeys(("circuit.dose", "circuit.head_tokens"), (False, False, False, True)),
        "intervention.select.scale": (False, False, False, True),
        "intervention.select.alpha": (False, False, False, False),
        "circuit.delta_baseline": (True, False, True, True),
    }
    for key, wanted in changes.items():
        other = Job(changed(made, key))
        stages = ("attribution_address", "importance_address", "circuit_address", "_scale_selection_key")
        assert tuple(getattr(other, name) != getattr(one, name) for name in stages) == wanted, key
        assert (other._selection_key != one._selection_key) == (key == "intervention.select.alpha"), key
        assert other.directions_address == one.directions_address


def test_a_saved_circuit_is_known_by_what_it_holds(tmp_path: Path) -> None:
    """Its folder's name does not matter; another value in it does."""
    jobs = []
    for name, size in (("a", 1.0), ("b", 1.0), ("c", 2.0)):
        circuit(SHAPE, emotions=("anger", "sadness", "fear"), size=size).save(tmp_path / name)
        jobs.append(Job(config(tmp_path, "intervention=circuit", f"circuit.path={tmp_path / name}")))
    a, b, c = jobs
    assert (a.result_address, a.circuit_address) == (b.result_address, b.circuit_address)
    assert a.result_address != c.result_address and a.circuit_address != c.circuit_address
