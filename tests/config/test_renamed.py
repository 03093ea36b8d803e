"""Keys that have a better name: the old one is understood wherever it stands, said once, and changes no address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from support import class_jobs
from support.jobs import overrides

from emo.config import renamed
from emo.config.check import REPOSITORY, to_config
from emo.config.error_text import known_keys
from emo.config.renamed import RENAMED, UNTIL, stored, typed
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.core.sealed import seal
from emo.pipeline import addresses, labelled
from emo.pipeline.jobs import make_job
from emo.results.table import load_results, read_any, read_sweep

LINES = {  # as it was typed -> as it is typed now
    "intervention.of=population": "intervention.ratio_of=population",
    "intervention.live=true": "intervention.attenuate_by=live",
    "intervention.live=False": "intervention.attenuate_by=mean",
    "intervention.live=true,false": "intervention.attenuate_by=live,mean",
    "++intervention.live=false": "intervention.attenuate_by=mean",
    "circuit.stable=1-2": "circuit.reference_layers=1-2",
    "+circuit.alphas=[0.1,0.3]": "circuit.push_sizes=[0.1,0.3]",
    "circuit.final=normed": "circuit.importance_at=normed",
}
CIRCUIT = ("intervention=circuit", "circuit.stable=1-2", "circuit.alphas=[0.2]", "circuit.final=normed")


@pytest.fixture(autouse=True)
def _say_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renamed, "_noted", set())


def composed(words: list[str], more: list[str] | None = None) -> Config:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        new = typed(words, quiet=True)
        return to_config(compose("config", overrides=[*new, *(more or [])]), new)


def scenarios(folder: Path, *words: str) -> Config:
    return composed(overrides(folder, *words))


def classes(folder: Path, *words: str) -> Config:
    given = [*class_jobs.SMALL, f"paths.outputs={folder}", "intervention=mask", *words]
    return composed(list({word.partition("=")[0]: word for word in given}.values()))


@pytest.mark.parametrize("old", LINES)
def test_what_was_typed_is_read_as_what_is_typed_now(old: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert typed(["seed=1", old]) == ["seed=1", LINES[old]]
    assert typed([old]) == [LINES[old]]
    before, now = (word.partition("=")[0].lstrip("+") for word in (old, LINES[old]))
    assert capsys.readouterr().out == f"{before} is now {now}; the old name is accepted until {UNTIL}\n"


def test_other_words_stay_and_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-m", "intervention.ratio_of=set", "--config-dir=x", "intervention.alpha=1,2", "circuit.budget=5x"]
    assert typed(words) == words
    assert capsys.readouterr().out == ""


def test_old_and_new_words_are_keys_as_the_table_says() -> None:
    keys = set(known_keys())
    assert {one.now for one in RENAMED} <= keys and not {one.before for one in RENAMED} & keys


@pytest.mark.parametrize("one", RENAMED)
def test_both_names_of_a_key_are_refused(one: renamed.Renamed) -> None:
    with pytest.raises(UserError) as refused:
        typed([f"{one.before}=1", "seed=1", f"+{one.now}=2"])
    assert str(refused.value) == (
        f"{one.before} and {one.now}: the old and the new name of one key; leave {one.before} out"
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["intervention.of=population", "intervention.ratio=0.3"],
         ["intervention.ratio_of=population", "intervention.ratio=0.3"]),
        (["intervention.op=attenuate", "intervention.live=false"],
         ["intervention.op=attenuate", "intervention.attenuate_by=mean"]),
        (["intervention=adaptive_mask", "intervention.live=true"], ["intervention=adaptive_mask"]),
    ],
)  # fmt: skip
def test_an_old_and_a_new_line_of_masks_are_one_job(old: list[str], new: list[str], tmp_path: Path) -> None:
    one, other = (make_job(classes(tmp_path, *words)).result_address for words in (old, new))
    assert one == other != make_job(classes(tmp_path)).result_address


def test_an_old_and_a_new_line_of_circuits_are_one_job(tmp_path: Path) -> None:
    one, other = (make_job(scenarios(tmp_path, *words)) for words in (CIRCUIT, typed(CIRCUIT, quiet=True)))
    assert isinstance(one, addresses.Addresses) and isinstance(other, addresses.Addresses)
    assert (one.result_address, one.importance_address) == (other.result_address, other.importance_address)
    assert other.circuit_layers and other.stable_layers == (1, 2)


def test_addresses_hold_the_old_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what was stored under them is found; what the old version hashed is written out here."""
    seen: dict[str, dict[str, Any]] = {}

    def address(stage: str, _: int, **inputs: Any) -> str:
        seen[stage] = inputs
        return stage

    for module in (addresses, labelled):
        monkeypatch.setattr(module, "address", address)
    assert make_job(scenarios(tmp_path, *CIRCUIT)).result_address == "result"
    circuit = seen["result"]["config"]["circuit"]
    assert (circuit["stable"], circuit["alphas"], circuit["final"]) == ((1, 2), [0.2], "normed")
    assert not {"reference_layers", "push_sizes", "importance_at"} & set(circuit)
    job = make_job(scenarios(tmp_path, *CIRCUIT))
    assert isinstance(job, addresses.Addresses) and job.importance_address == "importance"
    assert {"stable": (1, 2), "alphas": [0.2], "final": "normed", "sigma": "update"}.items() <= seen[
        "importance"
    ].items()
    for words, of, live in (
        (["intervention.op=attenuate"], "set", True),
        (["intervention.of=population", "intervention.live=false", "intervention.ratio=0.3"], "population", False),
    ):
        assert make_job(classes(tmp_path, *words)).result_address == "result"
        [arm] = [one for one in seen["result"]["arms"] if one["name"] == "mask"]
        assert (arm["of"], arm["live"]) == (of, live)
        assert not {"ratio_of", "attenuate_by"} & set(arm)


def file_of(folder: Path, text: str) -> list[str]:
    """Write an intervention of a user's own and return the words that find it, as --config-dir does."""
    (folder / "conf" / "intervention").mkdir(parents=True, exist_ok=True)
    head = "defaults: [/_intervention@_here_, _self_]\nkind: mask\n"
    (folder / "conf" / "intervention" / "mine.yaml").write_text(head + text, encoding="utf-8")
    words = ["hydra.searchpath=[file://" + str(folder / "conf") + "]", "intervention=mine", "model=tiny_llama"]
    return [*words, "dataset=dialogues", "evaluator=prediction"]


def test_a_file_with_old_names_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = file_of(tmp_path, "of: population\nratio: 0.3\nop: attenuate\nlive: false\n")
    given = composed(words).intervention
    assert (given.ratio_of, given.attenuate_by) == ("population", "mean")
    assert capsys.readouterr().out.count("is now") == 2
    with pytest.raises(UserError, match=r"^intervention\.of and intervention\.ratio_of: the old and the new name"):
        composed([*words, "intervention.ratio_of=set"])
    with pytest.raises(UserError, match=r"^intervention\.live and intervention\.attenuate_by: "):
        composed(file_of(tmp_path, "live: true\nattenuate_by: mean\n"))


def test_a_misspelt_old_name_is_still_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"intervention\.offf: no such key"):
        composed(file_of(tmp_path, "offf: population\n"))


def test_results_that_are_stored_with_old_names_are_read(tmp_path: Path) -> None:
    """A table has them beside new ones, in one column."""
    rows = []
    for k, (name, value) in enumerate((("live", False), ("live", True), ("attenuate_by", "mean"))):
        address = f"{k}" * 64
        config = {
            "model": {"name": "tiny_llama"}, "dataset": {"name": "dialogues"},
            "intervention": {"kind": "mask", "of": "set", name: value} if name == "live" else {
                "kind": "mask", "ratio_of": "set", name: value
            },
            "circuit": {"stable": "0-1"} if name == "live" else {"reference_layers": "0-1"},
        }  # fmt: skip
        result = {
            "status": "done", "address": address, "config": config,
            "arms": {"mask": {"accuracy": {"value": 0.5, "ci": None, "n": 2}}},
        }  # fmt: skip
        folder = tmp_path / address[:16]
        folder.mkdir()
        (folder / "result.json").write_text(json.dumps(seal(result)), encoding="utf-8")
        rows.append({"address": address, "settings": {"intervention.live": str(value)}, "overrides": [
            f"intervention.{name}={value}"]})  # fmt: skip
    read = read_any(tmp_path / ("0" * 16))
    assert read is not None and read["config"]["intervention"] == {
        "kind": "mask", "ratio_of": "set", "attenuate_by": "mean",
    }  # fmt: skip
    assert load_results(tmp_path)["intervention.attenuate_by"].tolist() == ["mean", "live", "mean"]
    sweep = {"id": "1", "command": "x", "axes": ["intervention.live"], "jobs": rows[:2]}
    (tmp_path / "sweep.json").write_text(json.dumps(seal(sweep)), encoding="utf-8")
    listed = read_sweep(tmp_path)
    assert listed is not None and listed["axes"] == ["intervention.attenuate_by"]
    assert [job["settings"]["intervention.attenuate_by"] for job in listed["jobs"]] == ["mean", "live"]
    assert listed["jobs"][0]["overrides"] == ["intervention.attenuate_by=mean"]
    assert load_results(tmp_path)["intervention.attenuate_by"].tolist() == ["mean", "live"]
    assert stored({"seed": 1, "circuit": {"path": None}}) == {"seed": 1, "circuit": {"path": None}}
