"""Circuits on the hub: what would be sent, what the card says, and reading one back from the cache alone."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi, ModelCard, constants
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from support.circuits import circuit
from support.hub_cache import HubCache
from support.jobs import config

from emo import circuits
from emo.core.errors import UserError
from emo.find import circuit_hub
from emo.find.circuit import Circuit
from emo.find.circuit_card import card
from emo.find.circuit_similarity import find_circuit
from emo.pipeline.scenario import Job

SECRET = "hf_" + "s" * 34
FILES = ["README.md", "circuit.json", "circuit.safetensors"]
NUMBERS: dict[str, Any] = {
    "arms": {
        "none": {"clean_accuracy": {"value": 0.1, "ci": [0.0, 0.2], "n": 8}},
        "circuit": {"clean_accuracy": {"value": 0.625, "ci": [0.5, 0.75], "n": 8}},
        "random_circuit": {"clean_accuracy": {"value": 0.25, "ci": None, "n": 8}},
    },
    "pairs": 8, "dataset": "sev", "evaluator": "classifier", "scale": 1.5, "findings": ["The circuit does more."],
    "comparisons": ["circuit - random_circuit, clean_accuracy: 0.38 no interval, p = 0.500 (sign flips, Holm)"],
}  # fmt: skip


@pytest.fixture(autouse=True)
def _fresh() -> None:
    circuit_hub.hub_folder.cache_clear()


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return what would go to the hub: of every upload its arguments, and the files of its folder with their bytes."""
    calls: list[dict[str, Any]] = []

    def create(_: HfApi, repo_id: str, **how: Any) -> None:
        calls.append({"repo_id": repo_id, **how})

    def upload(_: HfApi, *, folder_path: str, **how: Any) -> Any:
        held = {path.name: path.read_bytes() for path in Path(folder_path).rglob("*")}
        calls.append({"folder": folder_path, "files": held, **how})
        return SimpleNamespace(commit_url=f"https://hub/{how['repo_id']}/commit/1")

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    return calls


def test_what_is_pushed(sent: list[dict[str, Any]], tmp_path: Path) -> None:
    """Three files, in a private repository; neither a token nor a path of this machine; read back they are the same."""
    ours = circuit()
    assert circuits.push(ours, "owner/anger") == "https://hub/owner/anger/commit/1"
    made, upload = sent
    assert made == {"repo_id": "owner/anger", "repo_type": "model", "private": True, "exist_ok": True}
    assert sorted(upload["files"]) == FILES == sorted(upload["allow_patterns"])
    whole = b"".join(upload["files"].values())
    for never in (SECRET, str(Path.home()), upload["folder"], str(Path.cwd())):
        assert never.encode() not in whole
    assert not Path(upload["folder"]).exists()
    for name, held in upload["files"].items():
        (tmp_path / name).write_bytes(held)
    assert circuits.load(tmp_path).digest() == ours.digest()
    assert 'emo.circuits.load("owner/anger")' in upload["files"]["README.md"].decode()


def test_the_card_tells_all_that_is_known(tmp_path: Path) -> None:
    """Model, data, controls with their numbers, licence; as the hub's own library reads it."""
    ours = circuit()
    circuits.save(ours, tmp_path / "plain")
    assert sorted(path.name for path in (tmp_path / "plain").iterdir()) == FILES
    assert "Nothing: neither what it does" in (tmp_path / "plain" / "README.md").read_text(encoding="utf-8")
    known = {"name": "llama32_1b", "id": "meta-llama/Llama-3.2-1B-Instruct", "commit": "c" * 40, "dtype": "bfloat16"}
    told = {"model": known, "dataset": "sev", "groups": 24, "data": "d" * 64, "elicitation": "paper"}
    full = Circuit(
        ours.emotions, ours.neurons, ours.heads, ours.shape, ours.weights, told | {"measured": NUMBERS}
    )  # fmt: skip
    said = card(full, "apache-2.0")
    front = ModelCard(said).data
    assert (front.license, front.base_model, front.library_name) == ("apache-2.0", known["id"], "emo")
    for part in (
        "| random_circuit | 0.25 |", "| circuit | 0.625 [0.5, 0.75] |", "The circuit does more.", "p = 0.500",
        "c" * 40, "d" * 64, "24 prompts", "| anger | 20 | 6 |", 'emo.load_model("llama32_1b")', "scale=1.5",
        "model=llama32_1b circuit.path=FOLDER", full.digest(),
    ):  # fmt: skip
        assert part in said, part
    other = ModelCard(card(full)).data
    assert other.license == "other" and other.to_dict()["license_name"] == "as-the-base-model"


def test_numbers_come_from_a_job_on_this_circuit(tmp_path: Path) -> None:
    """A folder without a finished job is refused before a file is written."""
    with pytest.raises(UserError, match="no finished job"):
        circuits.save(circuit(), tmp_path / "out", result=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_name_of_the_hub_is_read_from_the_cache(hub: HubCache, tmp_path: Path, monkeypatch: Any) -> None:
    """By emo.circuits.load and by circuit.path, without a network; a folder of that name comes first."""
    ours = circuit()
    circuits.save(ours, hub.repository("anger"))
    assert circuits.load("owner/anger").digest() == ours.digest()
    job = Job(config(tmp_path, "intervention=circuit", "intervention.scale=1", "circuit.path=owner/anger"))
    assert job.circuit_address == ours.of(job.names).digest()
    monkeypatch.chdir(tmp_path)
    circuit(seed=3).save(tmp_path / "owner" / "anger")
    assert circuits.load("owner/anger").digest() == circuit(seed=3).digest()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("owner/nothing", "circuit.path=owner/nothing: not in the local cache"),
        ("owner/model", "circuit.path=owner/model: no circuit.json in it"),
        ("owner/half", "circuit.path=owner/half: no circuit.safetensors in it"),
        ("missing", "circuit.path=missing: neither circuit.json nor"),
    ],
)
def test_what_is_no_circuit(hub: HubCache, name: str, said: str) -> None:
    """One line each."""
    (hub.repository("model") / "config.json").write_text("{}")
    (hub.repository("half") / "circuit.json").write_text("{}")
    with pytest.raises(UserError) as error:
        find_circuit(name, "circuit.path")
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


def refused(status: int) -> HfHubHTTPError:
    """Return what the hub's library raises on a status."""
    request = httpx.Request("POST", "https://hub")
    return HfHubHTTPError("no", response=httpx.Response(status, request=request))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (refused(403), "refused; set HF_TOKEN"),
        (refused(409), "refused by the hub"),
        (LocalTokenNotFoundError("no token"), "there is no token; set HF_TOKEN"),
        (httpx.ConnectError("no route"), "check the network"),
    ],
)
def test_a_push_that_fails_is_one_line(
    sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, error: Exception, said: str
) -> None:
    """And the token stands in none."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(HfApi, "upload_folder", fail)
    with pytest.raises(UserError, match=said) as caught:
        circuits.push(circuit(), "owner/anger")
    assert SECRET not in str(caught.value) and "\n" not in str(caught.value)
    assert len(sent) == 1


@pytest.mark.parametrize(("name", "offline", "said"), [("anger", False, "OWNER/NAME"), ("a/b", True, "HF_HUB_OFFLINE")])
def test_a_push_that_cannot_begin(
    sent: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, name: str, offline: bool, said: str
) -> None:
    """Nothing is sent."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(UserError, match=said):
        circuits.push(circuit(), name)
    assert sent == []


def test_numbers_stay_with_the_circuit(tmp_path: Path) -> None:
    """What was measured is part of its provenance and of no comparison: saved again, the card is the same."""
    told = circuit()
    measured = Circuit(told.emotions, told.neurons, told.heads, told.shape, told.weights, {"measured": NUMBERS})
    circuits.save(measured, tmp_path / "a")
    again = circuits.load(tmp_path / "a")
    circuits.save(again, tmp_path / "b")
    assert (tmp_path / "a" / "README.md").read_text() == (tmp_path / "b" / "README.md").read_text()
    assert again.digest() == told.digest() and json.loads((tmp_path / "b" / "circuit.json").read_text())["provenance"]
