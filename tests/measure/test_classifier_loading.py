"""evaluator=hf_classifier loads as models do: no code of its repository, no pickles, no weights left to chance."""

from __future__ import annotations

import ast
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.hub_cache import COMMIT, HubCache, change_json, change_weights

import emo
from emo.core.errors import UserError
from emo.measure import hf_classifier, hub_model

pytestmark = [pytest.mark.usefixtures("quiet"), pytest.mark.long]  # each writes a model and reads it
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
LABELS = {0: "rage", 1: "gloom"}
LOADERS = ("from_pretrained", "pipeline")


@pytest.fixture(scope="module", autouse=True)
def good(hub: HubCache) -> None:
    """Put owner/good into the cache, a tiny BERT that classifies."""
    folder = hub.repository("good")
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=16).save_pretrained(folder)
    sizes = {"vocab_size": len(WORDS), "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    told = transformers.BertConfig(**sizes, intermediate_size=8, id2label=LABELS, max_position_embeddings=16)
    transformers.BertForSequenceClassification(told).save_pretrained(folder)


def own_code(folder: Path) -> None:
    """Give the repository code that would leave a file."""
    (folder / "own.py").write_text(f"open({str(folder / 'was_here')!r}, 'w').close()\n")
    code = {"AutoConfig": "own.C", "AutoModelForSequenceClassification": "own.M", "AutoTokenizer": [None, "own.T"]}
    pipes = {"text-classification": {"impl": "own.P", "pt": ["AutoModelForSequenceClassification"]}}
    change_json(folder, auto_map=code, model_type="of_its_own", custom_pipelines=pipes)


def pipeline_code(folder: Path) -> None:
    """Give a known model a pipeline of its own."""
    own_code(folder)
    change_json(folder, auto_map=None, model_type="bert")


def tokenizer_code(folder: Path) -> None:
    """Give a known model a tokenizer of its own."""
    own_code(folder)
    change_json(folder, auto_map=None, model_type="bert", custom_pipelines=None)
    change_json(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "own.T"]}, tokenizer_class="T")


def pickled(folder: Path) -> None:
    """Put a pickle in the place of safetensors."""
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def headless(folder: Path) -> None:
    """Take the classifier's own layer away: transformers would draw one at random."""
    change_weights(folder, lambda weights: {k: v for k, v in weights.items() if not k.startswith("classifier")})


def no_vocabulary(folder: Path) -> None:
    """Take the tokenizer's files away."""
    for file in ("tokenizer.json", "vocab.txt"):
        (folder / file).unlink(missing_ok=True)


def cut(folder: Path) -> None:
    """Stop the download of the weights half-way."""
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:900])


def packed(folder: Path) -> None:
    """Say that the weights are quantised."""
    change_json(folder, quantization_config={"quant_method": "gptq", "bits": 4})


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "own-code": (own_code, "needs code of its own repository, which is never run"),
    "pickled": (pickled, "holds pickled weights only (pytorch_model.bin), which can run code"),
    "headless": (headless, "they lack classifier.bias, classifier.weight"),
    "no-vocabulary": (no_vocabulary, "no tokenizer (tokenizer.json,"),
    "cut": (cut, "model.safetensors is truncated or damaged"),
    "packed": (packed, "its weights are quantised (gptq:"),
}


def spoilt(hub: HubCache, name: str, change: Callable[[Path], None]) -> Path:
    """Return the folder of owner/``name``, a copy of owner/good with a change."""
    folder = hub.repository(name)
    shutil.copytree(hub.repository("good"), folder, dirs_exist_ok=True)
    change(folder)
    return folder


@pytest.mark.parametrize("local", [False, True], ids=["hub", "folder"])
@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_true_line(hub: HubCache, monkeypatch: pytest.MonkeyPatch, name: str, local: bool) -> None:
    """Labels of a random head would be numbers like any other."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    change, said = REFUSED[name]
    folder = spoilt(hub, f"{name}-{local}", change)
    with pytest.raises(UserError) as error:
        hf_classifier.load(str(folder) if local else f"owner/{name}-{local}")
    line = str(error.value)
    assert line.startswith(f"evaluator.model={folder if local else f'owner/{name}-{local}'}: ")
    assert said in line and "model.id" not in line and "check the network" not in line
    assert not (folder / "was_here").exists()


@pytest.mark.parametrize("change", [pipeline_code, tokenizer_code])
def test_code_beside_a_known_model_does_not_run(
    hub: HubCache, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """A pipeline or a tokenizer of its own: transformers' classes, or a refusal, but no code."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder = spoilt(hub, change.__name__.replace("_", "-"), change)
    try:
        assert type(hf_classifier.load(f"owner/{folder.parents[1].name[15:]}")).__module__.startswith("transformers.")
    except UserError as error:
        assert "code of its own repository" in str(error)  # noqa: PT017
    assert not (folder / "was_here").exists()


def test_loaded_as_transformers_loads_it(hub: HubCache) -> None:
    """At the commit that stands in the address of labels."""
    assert hf_classifier.commit("owner/good") == COMMIT
    own = transformers.pipeline("text-classification", model=str(hub.repository("good")), top_k=None)
    ours = hf_classifier.load("owner/good")
    assert ours(["a b", "b"]) == own(["a b", "b"])
    assert ours is hf_classifier.load("owner/good")


def test_lets_go_before_the_next(hub: HubCache, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classifiers are never in memory together."""
    held = weakref.ref(hf_classifier.load("owner/good").model)
    seen: list[Any] = []
    read = hub_model.read_weights
    monkeypatch.setattr(hub_model, "read_weights", lambda *a, **k: (seen.append(held()), read(*a, **k))[1])
    hf_classifier.load(str(hub.repository("good")))
    assert seen == [None]


def test_a_folder_that_is_not_there() -> None:
    """Local folders are read by the classifier, so the line must not say otherwise."""
    with pytest.raises(UserError, match=r"^evaluator\.model=\./nowhere: no such folder \(looked from /"):
        hf_classifier.load("./nowhere")


def test_every_loader_is_told_not_to_run_code() -> None:
    """A call of ``from_pretrained`` without ``trust_remote_code=False`` asks a question, and yes runs the code."""
    calls = 0
    for path in Path(emo.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or getattr(node.func, "attr", None) not in LOADERS:
                continue
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            calls += 1
            where = f"{path.name}:{node.lineno}"
            assert given.get("trust_remote_code") == "False" or given.get("model") == "model", where
            if ast.unparse(node.func) == "kind.from_pretrained":
                assert given["use_safetensors"] == given["output_loading_info"] == "True", where
    assert calls >= 4
