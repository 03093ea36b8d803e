"""A selector of a user's own: found by ``_target_``, refused before anything runs, in addresses, in every table."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.class_jobs import done, made, pairs

from emo.config.kinds import SELECTORS as NAMES
from emo.core.errors import UserError
from emo.core.targets import target_digest
from emo.find.activation_stats import Statistics
from emo.find.choosing import SELECTORS, choose_units
from emo.find.selectors import Ranked
from emo.pipeline.jobs import make_job
from emo.pipeline.labelled import ClassJob
from emo.report.class_notes import overlaps, sets

pytestmark = pytest.mark.usefixtures("quiet")
MODULE = '''
"""The neurons whose activation spreads most within a class."""
import torch
from emo.find.selectors import Ranked

def spread(stats, ratio, power=1.0):
    classes, layers, width = stats.active.shape
    tokens = stats.tokens[:, None, None]
    scores = (stats.square / tokens - (stats.total / tokens) ** 2).clamp(min=0).pow(power).flatten(1)
    best = scores.argsort(dim=-1, descending=True, stable=True)[:, : round(ratio * layers * width / classes)]
    return [Ranked(own // width, own % width, scores[c, own]) for c, own in enumerate(best)]

def one_set(stats, ratio):
    return spread(stats, ratio)[:1]

def twice(stats, ratio):
    return [Ranked(*(torch.cat([part, part]) for part in own)) for own in spread(stats, ratio)]

def outside(stats, ratio):
    return [own._replace(layer=own.layer + 99) for own in spread(stats, ratio)]

def tuples(stats, ratio):
    return [tuple(own) for own in spread(stats, ratio)]
'''
OWN = ("selector.name=spread", "selector._target_=own_selector.spread")


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put a module of a user's own into the current directory."""
    folder = tmp_path / "mine"
    folder.mkdir()
    path = folder / "own_selector.py"
    path.write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    target_digest.cache_clear()
    yield path
    sys.modules.pop("own_selector", None)


def job(folder: Path, *words: str) -> ClassJob:
    found = make_job(made(folder, *words))
    assert isinstance(found, ClassJob)
    return found


def test_every_built_in_name_is_a_function_of_the_one_protocol() -> None:
    assert tuple(SELECTORS) == NAMES


def test_a_job_runs_with_it_beside_its_controls(tmp_path: Path) -> None:
    """Its sets are masked, drawn controls match their blocks, and the page compares them with the built-in ones."""
    out = tmp_path / "out"
    found, where, result = done(out, *OWN, "control.units=[random]", "+selector.settings.power=2.0")
    assert set(result["arms"]) == {"none", "mask", "random"}
    own = found.finder.selected("spread")
    assert own.selector == "spread" and all(len(one.unit) == round(0.2 * 4 * 48 / 3) for one in own.sets)
    scores = own.sets[0].score
    assert (scores.diff() <= 0).all()
    mask, random = (found._mask(next(a for a in found.arms if a.name == name), 0, 0) for name in ("mask", "random"))
    assert sorted(pairs(mask.units)) == sorted(pairs(own.sets[0]))
    assert torch.equal(random.units.layer.bincount(), mask.units.layer.bincount())
    assert not set(pairs(random.units)) & {place for one in own.sets for place in pairs(one)}
    assert overlaps(found)["selectors"].title == "spread against other selectors"
    assert [row["count"] for row in sets(found)] == [len(one.unit) for one in own.sets]
    assert all(len(row["stability"]) == 3 for row in result["sets"])
    assert result["facts"]["selector"].startswith("spread (own_selector.spread, power 2.0), active at gate")
    page = (where / "report.html").read_text(encoding="utf-8")
    assert "spread (own_selector.spread" in page
    assert result["config"]["selector"]["_target_"] == "own_selector.spread"


def test_its_address_is_of_name_file_and_settings(tmp_path: Path, module: Path) -> None:
    plain = job(tmp_path, *OWN).result_address
    for words in (
        ["+selector.settings.power=2.0"],
        ["selector.ratio=0.1"],
        ["selector.site=neuron"],
        ["selector.name=other"],
    ):
        assert job(tmp_path, *OWN, *words).result_address != plain, words
    assert job(tmp_path, *OWN, "selector._target_=own_selector.tuples").result_address != plain
    assert job(tmp_path, *OWN).result_address == plain
    module.write_text(MODULE + "\n# another line\n", encoding="utf-8")
    target_digest.cache_clear()
    assert job(tmp_path, *OWN).result_address != plain


def test_no_address_of_another_selector_knows_of_it(tmp_path: Path) -> None:
    """Stored results keep their addresses: what is null is no part of them."""
    found = job(tmp_path, "intervention=inject")
    assert not {"_target_", "settings", "digest"} & set(found.finder.key)
    for arm in found.arms:
        assert not {"_target_", "settings"} & set(found._arm_key(arm).get("devices", {}))
    assert "spread" in job(tmp_path, "intervention=inject", *OWN).finder.key["name"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["selector._target_=own_selector.spread"], "type selector.name=NAME too"),
        (["selector.name=spread"], "selector.name=spread: not one of lape, lap"),
        (
            [*OWN, "selector._target_=own_selector.sprd"],
            "own_selector.sprd: own_selector has no sprd",
        ),
        ([*OWN, "selector._target_=nowhere.spread"], "there is no module nowhere"),
        (
            [*OWN, "+selector.settings.powr=2"],
            "unexpected keyword argument 'powr'; own_selector.spread(stats, ratio, power=1.0) is",
        ),
    ],
)
def test_what_is_wrong_is_refused_before_anything_runs(tmp_path: Path, words: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        make_job(made(tmp_path / "out", *words))
    assert said in str(refused.value) and "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("one_set", "returns 1 sets for 3 classes"),
        ("twice", "the set of class 1 of 3: a neuron stands there twice"),
        ("outside", "there are 0 to 3"),
        ("tuples", "a tuple, not an emo.find.selectors.Ranked"),
    ],
)
def test_what_is_no_set_of_neurons_is_refused(tmp_path: Path, name: str, said: str) -> None:
    own = job(tmp_path, f"selector.name={name}", f"selector._target_=own_selector.{name}")
    with pytest.raises(UserError, match=f"selector={name}: "):
        own.finder.selected(name)
    with pytest.raises(UserError) as refused:
        own.finder.selected(name)
    assert said in str(refused.value)


def test_scores_need_no_order_of_their_own() -> None:
    """An empty set is one: a class may have no neuron."""
    empty = Ranked(torch.zeros(0).long(), torch.zeros(0).long(), torch.zeros(0))
    stats = Statistics(torch.ones(2).double(), *(torch.zeros(2, 3, 4).double() for _ in range(5)))
    assert choose_units(lambda *_: [empty, empty], stats, 0.5, "mine", {}).selector == "mine"
