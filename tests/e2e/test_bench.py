"""The benchmarks, every case on a tiny model: agreement, the format of the rows, what is counted, what is an error."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch

from bench import gpu, naive, overhead
from bench.cases import CASES
from bench.compare import TOLERANCE
from bench.gpu_model import FULL, TINY, build
from bench.inputs import SIZES, emotion_prompts, typical
from bench.meters import Product, counted, hook_seconds, peak_mib, reset_peak
from bench.roofline import Roofline
from bench.run import NAMES, ROOT, main
from emo.core.types import Site
from emo.model.generate import generate
from emo.model.hooks import reading
from emo.model.lm import LM
from emo.model.passes import Row

pytestmark = pytest.mark.long  # every case of the benchmark

KEYS = ["case", "peer", "ours_s", "peer_s", "ratio", "token_ratio", "max_rel_diff", "error"]
ROOF = ["ours_gflops", "ours_attainable_gflops", "peer_gflops", "peer_attainable_gflops"]


def run(folder: Path, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code and the rows of the naive twin and of us alone, by case."""
    code = main(["--model", "tiny", "--out", str(folder), *words])
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert list(results)[:3] == ["machine", "versions", "cases"] and "torch" in results["versions"]
    assert results["square_gflops"] > 0
    return code, {row["case"]: row for row in results["cases"] if row["peer"] in ("naive", "self")}


def published() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (ROOT / "bench").glob("results.*")}


@pytest.mark.slow
def test_every_case_on_a_tiny_model(tmp_path: Path) -> None:
    """Ours and the naive twin agree, and ours forwards fewer tokens."""
    before = published()
    code, rows = run(tmp_path)
    assert published() == before
    assert code == 0
    assert list(rows) == list(NAMES)
    for name, row in rows.items():
        assert list(row) == KEYS + ROOF
        assert row["error"] is None, row
        assert row["ratio"] > 0
        if name in CASES:
            assert row["peer"] == "naive"
            assert row["ratio"] == row["peer_s"] / row["ours_s"]
            assert row["token_ratio"] > 1
            assert row["max_rel_diff"] <= TOLERANCE
            assert 0 < row["ours_gflops"] < row["ours_attainable_gflops"]
    assert rows["k_curve"]["token_ratio"] > 50
    assert rows["sublayer_importance"]["token_ratio"] > 50
    assert rows["head_importance"]["token_ratio"] == 1 + 4 * 4  # a clean forward and one for each head
    assert rows["hooks"]["ratio"] == rows["hooks"]["ours_s"] / rows["hooks"]["peer_s"] < 1
    assert rows["memory"]["ratio"] <= 1.1
    page = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "token ratio >= 50" in page
    assert "extrapolated from 5 of 204 forwards" in page
    assert "extrapolated from 32 of 192 forwards" in page


def test_what_goes_wrong_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ratio without agreement; a peer that is not there; the next case still runs."""

    def absent(*_: object) -> None:
        raise ImportError("No module named 'peer'\nand more")

    monkeypatch.setattr(naive, "k_curve", replaced(naive.k_curve, 1 + 1e-4))
    monkeypatch.setattr(naive, "capture", replaced(absent, 1))
    code, rows = run(tmp_path, "--peers", "naive", "k_curve", "capture", "head_importance")
    assert code == 1
    assert "differ by 1.0e-04" in rows["k_curve"]["error"]
    assert rows["k_curve"]["ratio"] is None and rows["k_curve"]["ours_gflops"] is None
    assert rows["capture"]["error"] == "ImportError: No module named 'peer'"
    assert rows["head_importance"]["error"] is None


def replaced(run: Callable[..., Any], factor: float) -> Callable[..., Any]:
    """Return ``run`` with another result."""
    return wraps(run)(lambda *given: run(*given) * factor)


def test_nan_is_no_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(naive, "capture", replaced(naive.capture, torch.nan))
    code, rows = run(tmp_path, "--peers", "naive", "capture")
    assert code == 1 and rows["capture"]["error"]


def test_an_unknown_case_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--model", "tiny", "k_curves"])
    assert stopped.value.code == 2
    assert "no case k_curves" in capsys.readouterr().err


@pytest.fixture
def llama(models: dict[str, LM]) -> LM:
    return models["llama"]


@pytest.mark.usefixtures("quiet")
def test_every_forwarded_token_is_counted(llama: LM) -> None:
    """Padding too, and what is read from the cache not; its products are those of the blocks' linear modules."""
    with counted(llama) as work:
        naive.capture(llama, [[5] * 7, [6] * 4])
    weights = sum(m.weight.numel() for m in llama.blocks.modules() if isinstance(m, torch.nn.Linear))
    assert work.tokens == 2 * 7
    assert work.operations == 2 * weights * work.tokens
    llama.prefixes.clear()
    with counted(llama) as work:
        [reply] = generate(llama, [[5] * 9], [Row(0)], [], 3, 4)
    assert work.tokens == 8 + max(1, min(3, len(reply) + 1))  # the prompt once, then one token a step
    naive.capture(llama, [[5] * 7])
    assert work.tokens == 8 + max(1, min(3, len(reply) + 1))


@pytest.mark.usefixtures("quiet")
def test_what_is_attainable_is_a_mean_over_the_time_of_the_products(llama: LM) -> None:
    """As many operations at a rate of 1 as at a rate of 3 are done at 1.5; a shape beyond the share is not measured."""
    roofline, slow, fast, rest = Roofline(llama), Product(2, 3, 4), Product(2, 4, 3), Product(1, 1, 1)
    roofline.known = {slow: 1.0, fast: 3.0}
    assert roofline.attainable(Counter({slow: 5, fast: 5, rest: 1})) == pytest.approx(1.5)
    assert roofline.attainable(Counter()) is None
    assert roofline.attainable(Counter({Product(7, llama.d, llama.d): 1})) > 1e6


@pytest.mark.usefixtures("quiet")
def test_time_in_hooks_is_that_of_the_hooks(llama: LM) -> None:
    """Every call inside the context, on either side of a module; none outside."""
    wanted = [(Site.RESID_POST, 0), (Site.HEAD, 1)]
    with hook_seconds() as spent, reading(llama, wanted, lambda *_: torch.randn(300, 300).inverse()):
        llama.model(input_ids=torch.tensor([[5, 6, 7]]))
    assert len(spent) == 2 and min(spent) > 1e-4
    with reading(llama, wanted, lambda *_: None):
        llama.model(input_ids=torch.tensor([[5, 6, 7]]))
    assert len(spent) == 2


def test_the_peak_is_seen_after_it_is_freed_and_then_forgotten() -> None:
    reset_peak()
    before = peak_mib()
    held = torch.ones(64 * 2**18)  # 64 MiB
    del held
    assert peak_mib() >= before + 60
    reset_peak()
    assert peak_mib() < before + 60


def test_a_failed_process_is_an_error_with_its_last_line() -> None:
    with pytest.raises(RuntimeError, match="no_such_model"):
        overhead.memory("no_such_model", SIZES["tiny"])


def test_the_typical_prompt_is_of_mean_length(llama: LM) -> None:
    prompts = emotion_prompts(llama, 3)
    lengths = [len(p.ids) for p in prompts]
    assert abs(lengths[typical(prompts)] - sum(lengths) / len(lengths)) < max(lengths) - min(lengths)
    assert [p.emotion for p in prompts] == sorted([*range(6)] * 3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="what is said where there is no GPU")
def test_the_gpu_benchmark_runs_on_a_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every part, on a tiny shape, and it says so; what both sides write is equal before there is a ratio."""
    before = published()
    assert gpu.main(["--out", str(tmp_path)]) == 0
    assert published() == before and not (ROOT / "bench" / "gpu.json").exists()
    said = capsys.readouterr().out
    assert "no GPU here: tiny shape, figures say nothing about a GPU" in said
    found = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))
    assert found["note"] == gpu.NO_GPU and found["peak"]["flops"] > 0
    assert [part["items"] for part in found["parts"]] == [12, 12, 2, 12, 12, 12]
    assert all(part["seconds"] > 0 and part["tflops"] > 0 for part in found["parts"])
    assert [row["edits"] for row in found["generation"]] == ["unedited", *(f"K={k}" for k in TINY.edits)]
    for row in found["generation"][:2]:
        assert row["same_first"] == row["same"] == 1
        assert row["ratio"] == pytest.approx(row["tokens_s"] / row["peer_tokens_s"])
    assert found["generation"][2]["peer_tokens_s"] is None


def test_no_ratio_where_replies_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that writes something else, in float32, is no peer."""
    lm, samples = build(TINY, torch.device("cpu"))
    peer = gpu.peer
    monkeypatch.setattr(gpu, "peer", lambda *given: [[*reply[:-1], reply[-1] + 1] for reply in peer(*given)])
    [row] = gpu.generation(lm, samples, TINY._replace(edits=()), gpu.Peak(1.0, 1.0))
    assert row.ratio is None and row.same < 1 == row.same_first


def test_the_full_shape_is_that_of_the_model() -> None:
    """Llama-3.2-3B: 3.2 billion weights, the embedding counted once."""
    attention = FULL.d * FULL.head_dim * (2 * FULL.heads + 2 * FULL.kv_heads)
    block = attention + 3 * FULL.d * FULL.ffn + 2 * FULL.d
    assert FULL.blocks * block + FULL.vocabulary * FULL.d + FULL.d == 3_212_749_824
