"""Artifacts by address: what changes one, what is recomputed, and that nothing half-written is ever read."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from emo.core import store as store_module
from emo.core.disk import DiskFullError
from emo.core.store import Artifact, Store, address

pytestmark = pytest.mark.usefixtures("quiet")
KEY = address("stage", 1, a=1)
MADE = Artifact(
    {"v": torch.arange(6.0).view(2, 3), "n": torch.tensor([1, 2])},
    [{"reply": "Oh no – “really”?\n", "nll": 1.25, "ids": [1, 2]}, {"reply": "", "nll": None, "ids": []}],
    {"groups": 3, "names": ["a"]},
)


def check(found: Artifact | None) -> None:
    """Assert that an artifact is MADE."""
    assert found is not None
    assert found.tensors.keys() == MADE.tensors.keys()
    assert all(torch.equal(found.tensors[k], v) and found.tensors[k].dtype is v.dtype for k, v in MADE.tensors.items())
    assert (found.rows, found.meta) == (MADE.rows, MADE.meta)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return an empty store."""
    return Store(tmp_path / "store")


@pytest.fixture
def computed() -> list[int]:
    """Return a list that grows with every computation of `again`."""
    return []


@pytest.fixture
def again(store: Store, computed: list[int]) -> Callable[[], Artifact]:
    """Return a request for MADE that counts its computations."""

    def compute() -> Artifact:
        computed.append(1)
        return MADE

    return lambda: store.get_or_compute("stage", KEY, {"a": 1}, compute)


def test_every_input_counts_in_an_address_and_their_order_does_not() -> None:
    """Stage, version and every input count; the order of keys does not; nan is no input."""
    keys = [
        address("stage", 1, a=1, b=[2]),
        address("stage", 2, a=1, b=[2]),
        address("other", 1, a=1, b=[2]),
        address("stage", 1, a=1, b=[3]),
        address("stage", 1, a=1, c=[2]),
        address("stage", 1, a="1", b=[2]),
    ]
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 for key in keys)
    assert address("stage", 1, b=[2], a=1) == keys[0]
    with pytest.raises(ValueError, match="JSON"):
        address("stage", 1, a=float("nan"))


def test_what_is_stored_is_read_as_it_was(store: Store, again: Callable[[], Artifact], computed: list[int]) -> None:
    """Tensors with their dtypes, rows with their texts, and who made them when."""
    assert store.get("stage", KEY) is None
    check(again())
    check(again())
    check(Store(store.root).get("stage", KEY))
    assert computed == [1]
    manifest = json.loads((store.folder("stage", KEY) / "manifest.json").read_text())
    assert (manifest["stage"], manifest["address"], manifest["config"]) == ("stage", KEY, {"a": 1})
    assert manifest["versions"].keys() >= {"torch", "transformers"}
    assert manifest["wall_s"] >= 0 and manifest["peak_mb"] > 0
    empty = Artifact()
    assert store.get_or_compute("stage", address("empty", 1), {}, lambda: empty) == empty
    assert store.get("stage", address("empty", 1)) == empty


def damage_tensors(folder: Path) -> None:
    raw = bytearray((folder / "tensors.safetensors").read_bytes())
    raw[-3] ^= 255
    (folder / "tensors.safetensors").write_bytes(raw)


def cut_rows(folder: Path) -> None:
    (folder / "rows.jsonl").write_bytes((folder / "rows.jsonl").read_bytes()[:-5])


def replace_address(folder: Path) -> None:
    text = (folder / "manifest.json").read_text()
    (folder / "manifest.json").write_text(text.replace(KEY, address("other", 1)))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "tensors": damage_tensors,
    "rows": cut_rows,
    "rows gone": lambda folder: (folder / "rows.jsonl").unlink(),
    "tensors gone": lambda folder: (folder / "tensors.safetensors").unlink(),
    "manifest cut": lambda folder: (folder / "manifest.json").write_text('{"address": '),
    "manifest empty": lambda folder: (folder / "manifest.json").write_text(""),
    "manifest a list": lambda folder: (folder / "manifest.json").write_text("[]"),
    "manifest no text": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe\x00"),
    "another address": replace_address,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_artifact_is_computed_again(
    damage: str, store: Store, again: Callable[[], Artifact], computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning that names the folder, then the artifact is whole again."""
    warnings: list[str] = []
    monkeypatch.setattr(store_module, "warn", warnings.append)
    again()
    DAMAGES[damage](store.folder("stage", KEY))
    check(again())
    assert len(warnings) == 1 and str(store.folder("stage", KEY)) in warnings[0]
    check(again())
    assert (len(computed), len(warnings)) == (2, 1)


def test_a_folder_without_a_manifest_is_replaced(
    store: Store, again: Callable[[], Artifact], computed: list[int]
) -> None:
    """A manifest that was deleted must not make every later run compute the same again."""
    again()
    (store.folder("stage", KEY) / "manifest.json").unlink()
    check(again())
    check(again())
    assert len(computed) == 2


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85"])
def test_any_reply_can_be_kept(store: Store, mark: str) -> None:
    """A reply may hold characters that Python takes for the end of a line."""
    made = Artifact(rows=[{"reply": f"Oh{mark}no"}])
    store.put("stage", KEY, made, {}, 0.0)
    assert store.get("stage", KEY) == made


def test_an_interrupted_write_leaves_nothing(
    store: Store, again: Callable[[], Artifact], computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between two files, or refused by a full disk: no artifact, no scratch folder, no locked door."""

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "versions", fail)  # tensors and rows are written, the manifest is not
        with pytest.raises(KeyboardInterrupt):
            again()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(
            DiskFullError, match="No space left on device: stage stage is not written, what is finished"
        ):
            again()
    with pytest.raises(ZeroDivisionError):
        store.get_or_compute("stage", KEY, {}, lambda: Artifact(meta={"x": 1 / 0}))
    assert [p.name for p in (store.root / "stage").iterdir() if p.is_dir()] == []
    check(again())
    assert len(computed) == 3


def test_the_time_of_an_artifact_is_not_that_of_others_it_asked_for(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels ask for replies: counted twice, every forecast would write them twice."""
    now = [0.0]
    monkeypatch.setattr(store_module.time, "perf_counter", lambda: now[0])
    keys = {stage: address(stage, 1) for stage in ("labels", "replies")}

    def make(stage: str, seconds: float, *asked: Callable[[], Artifact]) -> Artifact:
        def compute() -> Artifact:
            for other in asked:
                other()
            now[0] += seconds
            return MADE

        return store.get_or_compute(stage, keys[stage], {}, compute)

    make("labels", 2.0, lambda: make("replies", 5.0))
    took = {s: json.loads((store.folder(s, key) / "manifest.json").read_text())["wall_s"] for s, key in keys.items()}
    assert took == {"labels": 2.0, "replies": 5.0}


def test_only_the_missing_are_computed_together(store: Store) -> None:
    """Arms that are there stay; the others share one call, and each lands under its own name."""
    keys = {name: address("stage", 1, name=name) for name in "abcd"}
    asked: list[list[str]] = []

    def compute(names: list[str]) -> dict[str, Artifact]:
        asked.append(names)
        return {name: Artifact(meta={"name": name}) for name in names}

    def request(names: str) -> None:
        some = {name: keys[name] for name in names}
        found = store.get_or_compute_many("stage", some, {name: {} for name in names}, compute)
        assert {name: x.meta["name"] for name, x in found.items()} == {name: name for name in names}
        assert list(found) == list(names)

    request("ca")
    request("abcd")
    request("dcba")
    assert asked == [["c", "a"], ["b", "d"]]
    shutil.rmtree(store.folder("stage", keys["b"]))
    request("ab")
    assert asked[2:] == [["b"]]


def one_of_two(root: str, number: int, barrier: Any, results: Any) -> None:
    """Ask for the same artifact as the other process, at the same time."""
    barrier.wait(30)

    def compute() -> Artifact:
        results.put(f"computed by {number}")
        time.sleep(0.3)
        return Artifact({"x": torch.full((1000,), 7.0)}, [{"n": 1}], {"made": True})

    found = Store(root).get_or_compute("stage", KEY, {}, compute)
    results.put(float(found.tensors["x"].sum()))


def test_two_processes_end_with_one_artifact(store: Store) -> None:
    """The second waits for the first and reads what it wrote."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(2), context.Queue()
    started = [context.Process(target=one_of_two, args=(str(store.root), n, barrier, results)) for n in range(2)]
    for process in started:
        process.start()
    got = [results.get(timeout=60) for _ in range(3)]
    for process in started:
        process.join(60)
    assert [process.exitcode for process in started] == [0, 0]
    assert sum(isinstance(x, str) for x in got) == 1
    assert [x for x in got if isinstance(x, float)] == [7000.0, 7000.0]
    assert [p.name for p in (store.root / "stage").iterdir() if p.is_dir()] == [KEY[:16]]
    assert Store(store.root).get("stage", KEY) is not None


def test_who_was_faster_keeps_his_own(store: Store) -> None:
    """Without the lock, two writers of one address: the first stays whole, the second leaves nothing behind."""
    for n in (1, 2):
        store.put("stage", KEY, Artifact(meta={"n": n}), {}, 0.0)
    found = store.get("stage", KEY)
    assert found is not None and found.meta == {"n": 1}
    assert [p.name for p in (store.root / "stage").iterdir()] == [KEY[:16]]
