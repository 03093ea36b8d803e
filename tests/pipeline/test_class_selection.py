"""What jobs on classes select from, and what their results depend on: parts, spaces, circuits, priors, shares."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.class_jobs import done, made, pairs

from emo.core.errors import UserError
from emo.core.types import Site
from emo.data.labelled import parts
from emo.find.activation_stats import collect
from emo.find.circuit import Circuit, Part, Shape
from emo.measure.asking import named
from emo.measure.class_prediction import content_span, question_ids
from emo.model.fingerprint import fingerprint
from emo.pipeline.finding import PARTS
from emo.pipeline.jobs import make_job
from emo.pipeline.labelled import ClassJob

pytestmark = pytest.mark.usefixtures("quiet")


def test_parts_add_up_and_halves_share_no_topic(tmp_path: Path) -> None:
    """Statistics are those of all train texts, whatever the parts; selections on halves are of other texts."""
    job = make_job(made(tmp_path, "dataset.limit=5"))
    assert isinstance(job, ClassJob)
    finder, train = job.finder, job.splits.train
    ids = question_ids(job.lm, train, job.names, "emotion")
    before, behind = content_span(job.lm, job.names, "emotion")
    spans = [(before, len(own) - behind) for own in ids]
    labels = [job.names.index(item.label) for item in train]
    whole = collect(job.lm, ids, spans, labels, 3, Site.NEURON, 4, "all")
    for one, other in zip(finder.means, whole, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-3)  # passes are padded differently
    groups = [{train[i].group for i in part} for part in parts(train, PARTS)]
    assert sum(map(len, groups)) == len({item.group for item in train})
    assert len(finder.halves("lape")) == 3


def test_one_space_for_emotions_and_devices(tmp_path: Path) -> None:
    """In a joint space the classes of both share the neurons; the same sets come out from either side."""
    more = ("selector.assignment=argmax", "selector.filter=false", "control.units=[]", "dataset.limit=5")
    more = ("selector.space=joint", *more)
    job, _, result = done(tmp_path, *more)
    assert job.beside is not None
    devices = job.finder.others("lape")
    chosen = [*job.finder.selected("lape").sets, *devices.sets]
    assert sum(len(own.unit) for own in chosen) == round(0.2 * job.spec.n_layers * job.lm.f)
    assert len({pair for own in chosen for pair in pairs(own)}) == sum(len(own.unit) for own in chosen)
    assert result["overlaps"]["beside"]["rows"] == list(job.beside.splits.classes)
    assert not np.array(result["overlaps"]["beside"]["jaccard"], dtype=float).any()  # argmax: none is shared
    other = make_job(made(tmp_path, *more, "dataset=rhetoric"))
    assert isinstance(other, ClassJob) and other.beside is not None
    assert list(other.beside.splits.classes) == job.names
    assert list(map(pairs, other.finder.selected("lape").sets)) == list(map(pairs, devices.sets))
    alone = make_job(made(tmp_path, *more, "selector.space=separate"))
    assert alone.result_address != job.result_address


def test_overlap_with_a_circuit(tmp_path: Path) -> None:
    """A saved circuit's neurons are compared with the classes'; one of another model is refused."""
    job = make_job(made(tmp_path))
    assert isinstance(job, ClassJob)
    own = job.finder.selected("lape").sets
    neurons = tuple(Part(x.layer, x.unit, torch.zeros(len(x.unit), 1)) for x in (own[1], own[2]))
    shape = Shape.of(job.lm)
    none = Part(torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long), torch.zeros(0, shape.p))
    Circuit(("sadness", "fear"), neurons, (none, none), shape, fingerprint(job.lm)).save(tmp_path / "circuit")
    _, where, result = done(tmp_path, f"circuit.path={tmp_path / 'circuit'}", "control.units=[]")
    found = result["overlaps"]["circuit"]
    assert found["rows"] == ["sadness", "fear"]
    assert [found["jaccard"][0][1], found["jaccard"][1][2]] == [1, 1]
    assert 0 < found["chance"] < 1
    assert (where / "overlap_circuit.png").is_file()
    config = made(tmp_path, f"circuit.path={tmp_path / 'circuit'}", "model=tiny_qwen2")
    with pytest.raises(UserError, match=r"circuit\.path: this circuit"):
        make_job(config).check()


def test_the_unedited_arm_depends_on_the_train_texts_behind_its_prior(tmp_path: Path) -> None:
    """More train texts beside the same test texts: another prior, so other scores of every arm."""
    keys = {}
    for words in ((), ("evaluator.score=sum",)):
        few, all_ = (make_job(made(tmp_path, f"dataset.limit={n}", *words)) for n in (12, 20))
        assert isinstance(few, ClassJob) and isinstance(all_, ClassJob)
        assert few.splits.test == all_.splits.test and few.splits.train != all_.splits.train
        keys[words] = [job._arm_key(job.arms[0]) for job in (few, all_)]
    assert keys[()][0] != keys[()][1]
    assert keys[("evaluator.score=sum",)][0] == keys[("evaluator.score=sum",)][1]


def test_what_was_not_parsed_is_no_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither right for the first class in the loop, nor what a reply is called."""
    nothing = torch.full((1, 3), torch.nan)
    assert named(torch.cat([nothing, torch.tensor([[0.0, 2.0, 1.0]])])).tolist() == [-1, 1]
    job = make_job(made(tmp_path, "intervention=induce", "evaluator.answer=parsed", "control.units=[]"))
    assert isinstance(job, ClassJob)
    monkeypatch.setattr(ClassJob, "_asked", lambda _, items, *__: nothing.expand(1, len(items), 3))
    assert job._accuracy(job.splits.dev, None, "dev").tolist() == [0, 0, 0]
    assert {row["called"] for row in job.written["none"].rows} == {None}


def test_parts_have_their_share_of_every_class(tmp_path: Path) -> None:
    """Counterparts stand beside every fourth pair or so: dealt by place they would all be in two parts of four."""
    job = make_job(made(tmp_path, "dataset=rhetoric", "dataset.limit=null"))
    assert isinstance(job, ClassJob)
    train = job.splits.train
    for name in job.names:
        sizes = [sum(train[i].label == name for i in part) for part in parts(train, PARTS)]
        assert max(sizes) - min(sizes) <= 2, (name, sizes)


@pytest.mark.parametrize("words", [
    ("intervention.ratio_of=population",), ("intervention.ratio_of=population", "intervention.ratio=[0.5,1.0]"),
    ("intervention=adaptive_mask", "intervention.ratio_of=population", "intervention.ratio=0.1"),
])  # fmt: skip
def test_a_share_of_the_population_is_a_share(tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(UserError, match=r"below 1, of masks only; type intervention=mask intervention\.ratio="):
        make_job(made(tmp_path, *words))


def test_last_tokens_have_no_space_in_common(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"type selector\.tokens=content"):
        make_job(made(tmp_path, "selector.space=joint", "selector.tokens=last"))


def test_devices_are_selected_by_lape_whatever_selects_emotions(tmp_path: Path) -> None:
    """Their settings are read too, so results depend on them."""
    words = ("intervention=inject", "selector=cas", "control.units=[]")
    jobs = [make_job(made(tmp_path, *words, f"selector.assignment={name}")) for name in ("lape_bar", "argmax")]
    one, other = (job for job in jobs if isinstance(job, ClassJob))
    arm = one.arms[1]
    assert one._arm_key(arm) != other._arm_key(arm) and one._arm_key(one.arms[0]) == other._arm_key(other.arms[0])
