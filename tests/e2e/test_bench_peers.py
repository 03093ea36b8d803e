"""The packages of the benchmark on a tiny model: agreement where they are installed, a line or a row where not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench import naive
from bench.compare import TOLERANCE
from bench.inputs import model, weights_folder
from bench.peers import groups
from bench.peers.groups import CURVES, GROUPS, NAMES, Group, Runs
from bench.peers.rows import ROWS, head_rows
from bench.run import main
from emo.model.lm import LM

pytestmark = pytest.mark.long  # cases of the benchmark

PACKAGES = [name for name, group in GROUPS.items() if group.package]


def run(folder: Path, *words: str) -> tuple[int, dict[str, Any], str]:
    """Return the exit code, the results and the page."""
    code = main(["--model", "tiny", "--out", str(folder), *words])
    page = (folder / "results.md").read_text(encoding="utf-8")
    return code, json.loads((folder / "results.json").read_text(encoding="utf-8")), page


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_agrees(tmp_path: Path, name: str) -> None:
    """Both of its peers, on every case that it can do; with a cache, a condition costs a token."""
    group = GROUPS[name]
    if not group.installed:
        pytest.skip(f"{group.package} is not installed: {groups.INSTALL}")
    code, results, page = run(tmp_path, "--peers", ",".join(group.cases))
    assert code == 0, results["cases"]
    rows = {(row["peer"], row["case"]): row for row in results["cases"]}
    assert set(rows) == {(p, c) for p, own in group.cases.items() for c in own} | {(name, c) for c in group.cannot}
    for (peer, case), row in rows.items():
        if case in group.cannot:
            assert row["error"] == group.cannot[case] and row["ratio"] is None
            continue
        assert row["error"] is None and row["ratio"] > 0 and row["max_rel_diff"] <= TOLERANCE
        assert row["ours_gflops"] > 0 and row["peer_gflops"] > 0
        assert row["token_ratio"] > 5 if not peer.endswith("_cached") else 1 <= row["token_ratio"] < 3
        assert f"| {case} | {peer} |" in page
    assert results["versions"] | group.versions() == results["versions"] and group.versions()


def test_plain_transformers_with_a_cache_agree(tmp_path: Path) -> None:
    code, results, _ = run(tmp_path, "--peers", "naive_cached")
    assert code == 0
    assert [(row["case"], row["peer"]) for row in results["cases"]] == [(case, "naive_cached") for case in CURVES]
    for row in results["cases"]:
        assert row["max_rel_diff"] <= TOLERANCE and 1 <= row["token_ratio"] < 3


class Pretended(Group):
    """A package that does what the naive twin does, or not."""

    def opened(self, lm: LM, folder: str) -> Runs:
        """See `Group.opened`."""
        assert (Path(folder) / "config.json").is_file() and list(Path(folder).glob("*.safetensors"))
        if self.module == "broken":
            raise AttributeError("module 'torch' has no attribute 'old'\nTraceback")

        def raising(*_: object) -> None:
            raise RuntimeError("out of date | and out of order")

        runs: dict[str, Callable[..., Any]] = {"k_curve": partial(naive.k_curve, lm), "head_importance": raising}
        return {"pretended": runs, "pretended_cached": {"k_curve": lambda *given: runs["k_curve"](*given) * 2}}


CASES = {"pretended": CURVES, "pretended_cached": ("k_curve",)}


def pretend(monkeypatch: pytest.MonkeyPatch, module: str, package: str) -> None:
    monkeypatch.setattr(
        "bench.run.GROUPS", {"pretended": Pretended(module, package, CASES, {"capture": "cannot: see"})}
    )
    monkeypatch.setattr("bench.run.PEERS", tuple(CASES))


def test_rows_of_peers_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ratio, a peer that raises, one that does not agree, and one that has no means."""
    pretend(monkeypatch, "works", "torch")
    code, results, page = run(tmp_path, "--cases", "k_curve,head_importance", "capture", "--peers", ",".join(CASES))
    assert code == 1
    rows = {(row["case"], row["peer"]): row for row in results["cases"]}
    assert list(rows) == [
        *(("head_importance", "pretended"), ("k_curve", "pretended"), ("k_curve", "pretended_cached")),
        ("capture", "pretended"),
    ]
    good, out_of_order = rows["k_curve", "pretended"], rows["head_importance", "pretended"]
    assert good["error"] is None and good["ratio"] == good["peer_s"] / good["ours_s"] > 1
    assert out_of_order["error"] == "RuntimeError: out of date | and out of order" and out_of_order["ratio"] is None
    assert "differ by" in rows["k_curve", "pretended_cached"]["error"]
    said = next(line for line in page.splitlines() if line.startswith("| k_curve | pretended |"))
    assert f"| {good['ratio']:.3g} |" in said and "| ratio >= 20 |" in said and said.count("%)") == 2
    assert "RuntimeError: out of date / and out of order |" in page
    assert "| capture | pretended | - |" in page and "| cannot: see |" in page
    told = capsys.readouterr().out
    assert "k_curve                pretended               ratio" in told
    assert "capture                pretended               cannot: see" in told


def test_nothing_failed_where_a_peer_has_no_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is not even opened."""
    pretend(monkeypatch, "broken", "torch")
    code, results, _ = run(tmp_path, "--peers", "pretended", "capture")
    assert code == 0 and results["cases"][0]["error"] == "cannot: see"


def test_a_package_that_is_not_there_is_a_line_or_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line that says how to install it where all are wanted; an error where it is asked for by name."""
    pretend(monkeypatch, "works", "no_such_package")
    code, results, page = run(tmp_path, "k_curve")
    assert code == 0 and results["cases"] == []
    assert "Not compared, as not installed: pretended (make bench-peers)." in page
    assert "pretended: not compared, as it is not installed: type make bench-peers" in capsys.readouterr().out
    code, results, page = run(tmp_path, "k_curve", "--peers", "pretended")
    assert code == 1
    missing = "ModuleNotFoundError: no_such_package is not installed: type make bench-peers"
    assert [row["error"] for row in results["cases"]] == [missing]
    assert missing in page and "Not compared" not in page


def test_a_package_that_cannot_be_opened_is_a_row_for_each_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, "broken", "torch")
    code, results, _ = run(tmp_path, "k_curve")
    assert code == 1
    errors = {row["peer"]: row["error"] for row in results["cases"]}
    assert errors == dict.fromkeys(CASES, "AttributeError: module 'torch' has no attribute 'old'")


def test_an_unknown_peer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--model", "tiny", "--peers", "nnsigth,naive"])
    assert stopped.value.code == 2
    assert f"no peer nnsigth; there are {', '.join(NAMES)}" in capsys.readouterr().err


@pytest.mark.usefixtures("quiet")
def test_the_weights_that_packages_read_are_ours() -> None:
    """To the bit: a tiny model has no folder, so it is saved to one."""
    import transformers

    lm = model("tiny")
    with weights_folder(lm) as folder:
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert not Path(folder).exists()
    ours = lm.model.state_dict()
    assert all((weight == ours[name]).all() for name, weight in theirs.state_dict().items())


@pytest.mark.parametrize(("layers", "heads"), [([0, 2], 3), (range(30), 9)])
def test_every_head_has_one_row(layers: Sequence[int], heads: int) -> None:
    """In passes of limited size, each with a clean row; a row is without its own head alone."""
    import torch

    passes = list(head_rows(layers, heads, 2))
    assert [h for one in passes for h in one.heads] == [(i, x, h) for i, x in enumerate(layers) for h in range(heads)]
    assert max(len(one.heads) for one in passes) <= ROWS
    for one in passes:
        kept = {layer: one.keeping(layer, torch.device("cpu")) for layer in one.layers}
        for layer, factor in kept.items():
            assert factor.shape == (one.count, 1, heads * 2) and (factor[0] == 1).all()
            for row, (_, own, head) in enumerate(one.heads, 1):
                gone = (factor[row, 0] == 0).nonzero().flatten().tolist()
                assert gone == ([2 * head, 2 * head + 1] if own == layer else [])
