"""The classifier that is shipped is the one that the shipped texts give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from emo.config.choices import MINILM
from emo.config.emotions import EKMAN6
from emo.core.store import Store
from emo.measure import classifier, classifier_fit
from emo.measure.classifier import classifier_address, load_classifier
from emo.measure.encoders import encoder_of
from emo.measure.shipped_classifier import ship, shipped

pytestmark = pytest.mark.usefixtures("quiet")
REMEDY = "texts, settings or encoder changed: type python -m emo.measure.classifier"


def never(*_: object) -> None:
    """Fit nothing."""
    raise AssertionError("the shipped classifier was fitted again")


def test_it_is_that_of_the_shipped_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No first run waits for a fit, in whatever order the emotions are named."""
    assert shipped(classifier_address(EKMAN6)) is not None, REMEDY
    monkeypatch.setattr(classifier, "fit", never)
    made = load_classifier(Store(tmp_path), EKMAN6[::-1])
    assert made.label(["How dare they cheat me like that! I am furious.", ""]) == ["anger", "neutral"]


def test_others_are_fitted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other classes, and other settings, are another classifier."""
    assert shipped(classifier_address(EKMAN6[:3])) is None
    monkeypatch.setattr(classifier, "fit", never)
    with pytest.raises(AssertionError, match="fitted again"):
        load_classifier(Store(tmp_path), EKMAN6[:3])
    monkeypatch.setattr(classifier_fit, "PENALTY", 3.0)
    assert shipped(classifier_address(EKMAN6)) is None


def test_what_is_written_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = classifier_address(EKMAN6)
    made = shipped(key)
    assert made is not None, REMEDY
    monkeypatch.setattr("emo.measure.shipped_classifier.FOLDER", tmp_path / "classifier")
    assert shipped(key) is None
    ship(made, key)
    again = shipped(key)
    assert again is not None and again.rows == made.rows and again.meta == made.meta
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in made.tensors.items())


@pytest.mark.slow
def test_a_fit_gives_it() -> None:
    """On another processor in other digits."""
    made, kept = classifier.fit(EKMAN6, encoder_of(MINILM)), shipped(classifier_address(EKMAN6))
    assert kept is not None, REMEDY
    assert made.meta["names"] == kept.meta["names"]
    assert [row["ngram"] for row in made.rows] == [row["ngram"] for row in kept.rows]
    assert made.meta["report"]["accuracy"] == pytest.approx(kept.meta["report"]["accuracy"], abs=0.002)
    for name, tensor in kept.tensors.items():
        assert torch.allclose(made.tensors[name], tensor, atol=1e-2 * float(tensor.abs().max()))
