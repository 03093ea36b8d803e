"""A circuit on disk is the circuit in memory, belongs to one model, and adds to its units what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file, save_file
from support import twin
from support.circuits import EMOTIONS, SHAPE, circuit, units

import emo
from emo import circuits
from emo.config.check import REPOSITORY, to_config
from emo.config.schema import ModelConfig
from emo.core.errors import UserError
from emo.core.sealed import seal
from emo.core.types import Site, Tokens
from emo.find.circuit import JSON, TENSORS, Circuit, Part, Shape
from emo.model import tiny
from emo.model.fingerprint import fingerprint
from emo.model.lm import LM
from emo.model.load import describe, load
from emo.model.named import OPTIONS, model_config
from emo.model.prompts import user_ids

pytestmark = pytest.mark.usefixtures("quiet")
PROMPTS = ["My train leaves in ten minutes.", "I found the old letters."]


def made_for(lm: LM, **more: Any) -> Circuit:
    return circuit(Shape.of(lm), weights=fingerprint(lm), **more)


def test_saved_and_loaded(tmp_path: Path) -> None:
    """Every unit, delta and name; by folder or by file; nothing else is left in the folder."""
    ours = circuit()
    ours.save(tmp_path / "new" / "circuit")
    for path in (tmp_path / "new" / "circuit", str(tmp_path / "new" / "circuit" / JSON)):
        read = Circuit.load(path)
        assert (read.emotions, read.shape, read.weights) == (ours.emotions, ours.shape, ours.weights)
        assert read.provenance == ours.provenance
        assert read.digest() == ours.digest()
        for kind in circuits.KINDS:
            for e in range(len(EMOTIONS)):
                a, b = ours.part(kind, e), read.part(kind, e)
                assert all(torch.equal(x, y) for x, y in ((a.layer, b.layer), (a.unit, b.unit), (a.delta, b.delta)))
    assert sorted(p.name for p in (tmp_path / "new" / "circuit").iterdir()) == [JSON, TENSORS]
    circuit(seed=5).save(tmp_path / "new" / "circuit")  # over an older one
    assert Circuit.load(tmp_path / "new" / "circuit").digest() == circuit(seed=5).digest() != ours.digest()


def test_what_circuit_json_tells(tmp_path: Path) -> None:
    ours = circuit()
    ours.save(tmp_path)
    told = json.loads((tmp_path / JSON).read_text(encoding="utf-8"))
    assert told["shape"] == {"n_layers": 4, "d": 32, "f": 48, "h": 4, "p": 8}
    assert told["weights"] == ours.weights and told["emotions"] == list(EMOTIONS)
    for kind, k in (("neurons", 20), ("heads", 6)):
        assert [told["quotas"][kind][name] for name in EMOTIONS] == ours.quotas(kind)
        for e, quotas in enumerate(ours.quotas(kind)):
            assert sum(quotas) == k
            assert quotas == [ours.part(kind, e).layer.tolist().count(layer) for layer in range(4)]


def test_a_circuit_without_units_is_one(tmp_path: Path) -> None:
    empty = circuit(counts=(0, 3))
    empty.save(tmp_path)
    read = Circuit.load(tmp_path)
    assert read.quotas("neurons") == [[0] * 4] * 3
    assert {edit.site for edit in read.edits()} == {Site.HEAD}


def test_parts_may_share_memory(tmp_path: Path) -> None:
    ours = circuit()
    shared = replace(ours, neurons=(ours.neurons[0],) * 3)
    shared.save(tmp_path)
    assert Circuit.load(tmp_path).digest() == shared.digest()


def rewritten(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        told = json.loads((folder / JSON).read_text(encoding="utf-8"))
        change(told)
        (folder / JSON).write_text(json.dumps(seal(told)), encoding="utf-8")  # by hand, sealed again

    return spoil


def retensored(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        tensors = load_file(folder / TENSORS)
        tensors = {key: value.clone() for key, value in tensors.items()}
        tensors[name] = change(tensors[name])
        save_file(tensors, folder / TENSORS)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / JSON).unlink(), "circuit.json: no such file"),
        (lambda folder: (folder / TENSORS).unlink(), "circuit.safetensors: no such file"),
        (lambda folder: (folder / JSON).write_text("{broken"), "JSONDecodeError"),
        (lambda folder: (folder / JSON).write_text("[1, 2]"), "no circuit that can be used"),
        (lambda folder: (folder / JSON).write_text("{}"), "no circuit that can be used"),
        (lambda folder: (folder / JSON).write_bytes(b"\xff\xfe\x00"), "no circuit that can be used"),
        (lambda folder: (folder / TENSORS).write_bytes(b"nothing of the kind"), "no circuit that can be used"),
        (
            lambda folder: save_file(circuit(seed=1)._tensors(), folder / TENSORS),
            "is of another circuit than circuit.json",
        ),
        (rewritten(lambda told: told.update(format=2)), "format 2; this version reads 1"),
        (rewritten(lambda told: told.update(emotions=["anger", "fear", "joy"])), "emotions anger, fear, joy, circ"),
        (rewritten(lambda told: told.update(emotions=["anger", "fear"])), "holds anger, fear, sadness"),
        (rewritten(lambda told: told["shape"].update(n_layers=2)), "outside 0..1"),
        (rewritten(lambda told: told["shape"].update(f=8)), "outside 0..7"),
        (rewritten(lambda told: told["shape"].update(p=4)), "(k, 4) are needed"),
        (rewritten(lambda told: told["shape"].pop("d")), "no circuit that can be used"),
        (rewritten(lambda told: told.update(weights="other")), "one of them was changed"),
        (retensored("neurons/fear/unit", lambda x: x - 48), "neurons of fear: unit"),
        (retensored("heads/fear/layer", torch.zeros_like), "a unit stands there twice"),
        (retensored("heads/fear/delta", lambda x: x / 0), "a delta is not finite"),
        (retensored("heads/fear/delta", lambda x: x.double()), "delta float32"),
        (retensored("heads/fear/delta", lambda x: 2 * x), "one of them was changed"),
    ],
)
def test_what_is_no_circuit_is_refused_in_one_line(tmp_path: Path, spoil: Callable[[Path], object], said: str) -> None:
    circuit().save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(UserError) as error:
        Circuit.load(tmp_path)
    assert said in str(error.value)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such file"):
        Circuit.load(tmp_path / "nowhere")


def test_a_failed_save_leaves_the_old_circuit(tmp_path: Path) -> None:
    circuit().save(tmp_path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        replace(circuit(seed=1), provenance={"importance": float("nan")}).save(tmp_path)
    assert Circuit.load(tmp_path).digest() == circuit().digest()
    assert len(list(tmp_path.iterdir())) == 2


def test_the_digest_is_of_what_the_circuit_does() -> None:
    ours = circuit()
    assert ours.digest() == replace(ours, provenance={}).digest()
    turned = tuple(Part(x.layer.flip(0), x.unit.flip(0), x.delta.flip(0)) for x in ours.heads)
    assert ours.digest() == replace(ours, heads=turned).digest()
    first = ours.neurons[0]
    others = (
        replace(ours, weights="x"),
        replace(ours, emotions=EMOTIONS[::-1]),
        replace(ours, neurons=ours.neurons[::-1]),
        replace(ours, shape=SHAPE._replace(d=33)),
        replace(ours, neurons=(Part(first.layer, first.unit, first.delta.flip(0)), *ours.neurons[1:])),
        replace(ours, neurons=(Part(first.layer, first.unit, 1.001 * first.delta), *ours.neurons[1:])),
    )
    assert len({ours.digest(), *(other.digest() for other in others)}) == 1 + len(others)


def test_a_circuit_that_does_not_fit_itself_is_refused() -> None:
    ours = circuit()
    for change, said in (
        ({"emotions": ("anger", "fear")}, "3 parts of neurons for 2 emotions"),
        ({"emotions": ("anger", "fear", "anger")}, "none twice"),
        ({"heads": ours.neurons}, "heads of anger"),
        ({"shape": SHAPE._replace(n_layers=3)}, "block 0..3: outside 0..2"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(ours, **change)
    with pytest.raises(ValueError, match="kind 'neuron'"):
        ours.part("neuron", 0)


def test_other_shapes_always_and_other_weights_unless_allowed() -> None:
    ours = circuit()
    ours.check(SHAPE, "w" * 64)
    ours.check(SHAPE, "x" * 64, allow_other_weights=True)
    with pytest.raises(UserError, match=r"type circuit\.allow_other_weights=true"):
        ours.check(SHAPE, "x" * 64)
    for change in ({"n_layers": 5}, {"d": 64}, {"f": 64}, {"h": 8}, {"p": 4}):
        for allowed in (False, True):
            with pytest.raises(UserError) as error:
                ours.check(SHAPE._replace(**change), "w" * 64, allowed)
            assert str(SHAPE) in str(error.value) and str(SHAPE._replace(**change)) in str(error.value)


def test_edits_add_scale_times_delta_at_the_units_alone(lm: LM) -> None:
    """On every family, at the last prompt token and after it; a unit or a block off by one would show."""
    shape = Shape.of(lm)
    w = shape.p
    ours = Circuit(
        ("anger", "fear"),
        (units([1, 3], [5, 0], torch.tensor([[2.0], [-3.0]])), units([3], [7], torch.tensor([[1.5]]))),
        (units([2], [shape.h - 1], torch.arange(1.0, w + 1)[None]), units([], [], torch.zeros(0, w))),
        shape, "w",
    )  # fmt: skip
    at = twin.PROMPT - 1
    for c, scales in ((0, (0.5, 2.0)), (1, (0.5, 2.0))):
        edits = ours.edits(scales)
        assert [(e.site, e.layer) for e in edits] == [(Site.NEURON, 1), (Site.NEURON, 3), (Site.HEAD, 2)]
        assert {e.tokens for e in edits} == {Tokens.EVERY_STEP}
        places = [(e.site, e.layer) for e in edits]
        for edit in edits:  # one at a time: each is measured against the same activation unedited
            cond = torch.full((1, twin.LENGTH), c)
            moved = twin.observe(lm, places, [edit], cond)[edit.site, edit.layer]
            moved = moved - twin.observe(lm, places, [], cond)[edit.site, edit.layer]
            wanted = torch.zeros_like(moved)
            if c == 0 and edit.site is Site.HEAD:
                wanted[:, at:, -w:] = 0.5 * torch.arange(1.0, w + 1)
            elif c == 0:
                wanted[:, at:, 5 if edit.layer == 1 else 0] = 1.0 if edit.layer == 1 else -1.5
            elif (edit.site, edit.layer) == (Site.NEURON, 3):
                wanted[:, at:, 7] = 3.0
            assert torch.allclose(moved, wanted, atol=1e-5)


def test_conditions_are_the_emotions_that_were_asked_for() -> None:
    ours = circuit()
    for edit, swapped in zip(ours.edits(), ours.edits(emotions=EMOTIONS[::-1]), strict=True):
        w = 8 if edit.site is Site.HEAD else 1
        x = torch.zeros(1, 3, 4 * 8 if edit.site is Site.HEAD else 48)
        kind = "heads" if edit.site is Site.HEAD else "neurons"
        cond, gain = torch.tensor([[0, 1, 2]]), torch.ones(1, 3, 1)
        added = edit.op(x, cond, gain)
        assert torch.equal(added, swapped.op(x, 2 - cond, gain))
        for e in range(3):
            columns, values = ours.part(kind, e).at(edit.layer)
            assert torch.equal(added[0, e, columns], values) and len(columns) == w * ours.quotas(kind)[e][edit.layer]
    with pytest.raises(UserError, match="did you mean fear"):
        ours.edits(emotions=["feer"])
    with pytest.raises(ValueError, match="zip"):
        ours.edits([1.0, 2.0])


def test_write_is_generation_under_the_edits(lm: LM) -> None:
    """Equal to the uncached twin, on every family; scale 0 is the unedited model."""
    ours = made_for(lm, size=2.0)
    ids = user_ids(lm, PROMPTS)
    found = circuits.write(ours, lm, PROMPTS, "fear", 1.5, 6)
    edits = ours.edits(1.5)
    naive = [twin.reply(lm, own, 6, edits, 1, sorted(lm.stop_ids())) for own in ids]
    assert found == [lm.tokenizer.decode(reply, skip_special_tokens=True).strip() for reply in naive]
    plain = [twin.reply(lm, own, 6, stop=sorted(lm.stop_ids())) for own in ids]
    assert naive != plain
    assert circuits.write(ours, lm, PROMPTS[0], "fear", 1.5, 6) == found[:1]  # a text is one prompt, not its letters
    assert circuits.write(ours, lm, PROMPTS, "fear", 0.0, 6) == [
        lm.tokenizer.decode(reply, skip_special_tokens=True).strip() for reply in plain
    ]


def test_write_refuses_other_models_and_emotions(models: dict[str, LM]) -> None:
    lm = models["llama"]
    ours = made_for(lm)
    with pytest.raises(UserError, match="did you mean anger"):
        circuits.write(ours, lm, PROMPTS, "angr")
    with pytest.raises(UserError, match="4 heads of width 12"):
        circuits.write(ours, models["qwen3"], PROMPTS, "anger", allow_other_weights=True)
    other = built("llama", seed=1)
    with pytest.raises(UserError, match="allow_other_weights"):
        circuits.write(ours, other, PROMPTS, "anger")
    assert len(circuits.write(ours, other, PROMPTS, "anger", 1.0, 2, allow_other_weights=True)) == 2


SCRIPT = """
import json, sys
import emo.circuits
from emo.core import console
console.setup("quiet")
circuit = emo.circuits.Circuit.load(sys.argv[1])
lm = emo.load_model("tiny_llama", "cpu")
print(json.dumps(emo.circuits.write(circuit, lm, json.loads(sys.argv[2]), "anger", 1.5, 12)))
"""


@pytest.mark.slow
def test_a_fresh_process_writes_the_same_tokens(tmp_path: Path) -> None:
    lm = emo.load_model("tiny_llama", "cpu")
    ours = made_for(lm, size=2.0)
    wanted = circuits.write(ours, lm, PROMPTS, "anger", 1.5, 12)
    ours.save(tmp_path)
    assert circuits.write(Circuit.load(tmp_path), lm, PROMPTS, "anger", 1.5, 12) == wanted
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), json.dumps(PROMPTS)],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120, check=False,
        cwd=REPOSITORY,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == wanted
    assert wanted != circuits.write(ours, lm, PROMPTS, "anger", 0.0, 12)


def built(family: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> LM:
    config = ModelConfig(name=f"tiny_{family}", source="tiny", id=family)
    model = tiny.tiny_model(family, seed).to(dtype).requires_grad_(False)
    return LM(model, tiny.tiny_tokenizer(family), describe(config, "cpu"))


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2"])
def test_a_fingerprint_is_of_the_weights_and_not_of_their_dtype(family: str) -> None:
    known = fingerprint(built(family))
    assert fingerprint(built(family)) == known
    assert fingerprint(built(family, dtype=torch.bfloat16)) == known
    assert fingerprint(built(family, seed=1)) != known
    for column in range(
        32 if family != "gpt2" else 48
    ):  # a stride of 2 or 3 would read every other one or every third alone
        lm = built(family)
        name = next(name for name, _ in lm.model.named_parameters() if "up_proj" in name or "c_fc.weight" in name)
        lm.model.get_parameter(name)[:, column] *= 1.5
        assert fingerprint(lm) != known


def test_tied_weights_count_once() -> None:
    lm = built("gpt2")
    names = [name for name, _ in lm.model.named_parameters()]
    assert "transformer.wte.weight" in names and "lm_head.weight" not in names
    known = fingerprint(lm)
    lm.model.lm_head.weight = torch.nn.Parameter(lm.model.lm_head.weight.clone())
    assert fingerprint(lm) != known  # untied: one parameter more


def test_names_of_models_are_those_of_the_command_line() -> None:
    """`emo.load_model` reads the options itself: what Hydra composes of them must be the same."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        for name in ("smollm2_135m", "tiny_llama", "llama32_3b", "gpt2", "llama31_70b"):
            assert model_config(name) == to_config(compose("config", overrides=[f"model={name}"])).model
    assert {path.stem for path in OPTIONS.glob("*.yaml")} >= {"smollm2_135m", "tiny_llama"}
    for path in OPTIONS.glob("*.yaml"):
        if path.stem not in ("hub", "local"):
            assert model_config(path.stem).name == path.stem
    assert model_config("Qwen/Qwen3-4B") == ModelConfig(name="hub", id="Qwen/Qwen3-4B")
    with pytest.raises(UserError, match="did you mean tiny_llama"):
        emo.load_model("tiny_lama")
    assert emo.load_model("tiny_llama", "cpu") is load(describe(model_config("tiny_llama"), "cpu", "auto"))
