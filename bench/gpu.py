"""How fast a GPU is here: the paper's protocol part by part, and tokens per second beside transformers' ``generate``.

``python -m bench.gpu [--tiny] [--out FOLDER]``: a model of Llama-3.2-3B's shape with random weights in bfloat16, so
what is written means nothing, and takes as long as if it did. On a GPU the figures go to bench/gpu.json (or
``--out``); a CPU runs a tiny shape, which only shows that everything runs. Exit code 1: ours and transformers'
disagree; no ratio is given then.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import transformers
from torch import Tensor

from bench.gpu_model import FULL, TINY, Samples, Shape, build
from bench.inputs import EMOTIONS, unit_vectors
from bench.limits import Peak, peak, wait, working
from bench.naive import hooked
from bench.report import machine
from emo.config.schema import Config, ElicitationConfig, EmotionsConfig
from emo.core import console
from emo.core.store import versions
from emo.core.types import Site
from emo.edit.banks import UnitBank
from emo.edit.units import UnitArm, plan_units
from emo.find.attribution import attribute
from emo.find.directions import Moments
from emo.find.reference import reference
from emo.find.sublayer_importance import sublayer_importance
from emo.measure.projections import projections
from emo.model.capture import states
from emo.model.generate import generate
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.ops import Add
from emo.model.passes import NO_EDIT, Row
from emo.model.prefixes import Text
from emo.model.prompts import prompt_ids

ROOT = Path(__file__).resolve().parent
NO_GPU = "no GPU here: tiny shape, figures say nothing about a GPU"
KS, RANDOM = (0, 2, 4, 8, 16, 32, 64, 128), 10  # units per block; random draws of each
PUSHES, STABLE, DEPTH = (0.1, 0.3, 0.5, 0.7), (0.75, 0.92), (0.35, 0.85)
ALPHA, ENHANCED = 0.5, {"neurons": 64, "heads": 4}  # of steering; units per block of a modulated reply
ALIKE = 0.9  # share of first tokens that must be equal in half precision, where later ones need not be


class Part(NamedTuple):
    """One timed part."""

    part: str
    seconds: float
    items: int
    tflops: float  # achieved, attention left out
    share: float  # of the measured peak
    peak_gib: float | None  # of memory, on a GPU


class Speed(NamedTuple):
    """Generation of one batch: ours, and transformers' own where it can do it."""

    edits: str
    tokens_s: float
    peer_tokens_s: float | None
    ratio: float | None
    same_first: float | None  # share of replies whose first token is that of transformers
    same: float | None  # share of tokens before the first difference
    weights_share: float  # weights read per second, as a share of the copy bandwidth
    waits_per_token: float | None  # of the host for the device, where one is at hand


def timed(lm: LM, name: str, items: int, best: Peak, run: Callable[[], Any]) -> tuple[Part, Any]:
    """Run once and return what it took, and what it gave."""
    cuda = lm.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats(lm.device)
    lm.prefixes.clear()
    with working(lm) as work:
        start = wait(lm.device)
        found = run()
        seconds = wait(lm.device) - start
    rate = work.flops / seconds
    memory = torch.cuda.max_memory_allocated(lm.device) / 2**30 if cuda else None
    return Part(name, seconds, items, rate / 1e12, rate / best.flops, memory), found


def protocol(lm: LM, samples: Samples, shape: Shape, best: Peak) -> Iterator[Part]:
    """Yield the parts of the paper's protocol, each on what the one before found."""
    job = Config(
        batch_size=shape.batch_size,
        emotions=EmotionsConfig(list(EMOTIONS)),
        elicitation=ElicitationConfig("paper"),
    )
    asked = [prompt_ids(lm, job.elicitation, samples.extraction, name) for name in EMOTIONS]
    flat, n, layers = [ids for own in asked for ids in own], len(samples.extraction), tuple(range(lm.n_layers))

    def captured() -> Tensor:
        found = dict(states(lm, [Text(ids) for ids in flat], shape.batch_size))
        moments = Moments(len(EMOTIONS), "emotions_mean", True, 0, "bench")
        for i in range(n):
            moments.add(str(i), [found[e * n + i] for e in range(len(EMOTIONS))], None)
        return moments.directions()[0]

    part, v = timed(lm, "capture, directions", len(flat), best, captured)
    yield part
    every = {(sample.id, name) for sample in samples.extraction for name in EMOTIONS}
    part, found = timed(
        lm, "importance of heads and neurons", len(flat), best,
        lambda: attribute(lm, job, samples.extraction, v, every, "emotions_mean").tensors,
    )  # fmt: skip
    yield part
    plain = prompt_ids(lm, job.elicitation, samples.extraction, None)
    stable = range(int(STABLE[0] * lm.n_layers), int(STABLE[1] * lm.n_layers) + 1)
    part, _ = timed(
        lm, "importance of sublayers", len(plain), best,
        lambda: sublayer_importance(lm, plain, v, reference(v, stable), PUSHES, shape.batch_size),
    )  # fmt: skip
    yield part
    banks = {
        "neurons": UnitBank(Site.NEURON, found["neurons"], found["delta_mlp"], found["neurons_size"], 1),
        "heads": UnitBank(Site.HEAD, found["heads"], found["delta_attn"], found["heads_size"], lm.p),
    }
    for units, bank in banks.items():
        ks = sorted({min(k, bank.scores.shape[-1]) for k in KS})
        arms = [
            UnitArm(f"{pick}@k={k}", "ablate", layers=layers, seeds=seeds, units=units, pick=pick, k=k)
            for pick, seeds in (("top", 1), ("random", RANDOM))
            for k in ks
        ]

        def curve(arms: list[UnitArm] = arms, bank: UnitBank = bank) -> Tensor:
            made = plan_units(arms, bank, 0)
            conditions = [(arm, seed) for arm in arms for seed in range(arm.seeds)]
            rows = [
                Row(p, made.cond.get((arm.name, seed, p // n), NO_EDIT))
                for p in range(len(flat))
                for arm, seed in conditions
            ]
            return projections(lm, flat, rows, made.edits, v[:, :, 1], shape.batch_size)[0]

        part, _ = timed(lm, f"k-curves of {units}", len(flat), best, curve)
        yield part
    replied = prompt_ids(lm, job.elicitation, samples.test, None)

    def modulated() -> list[list[int]]:
        plans = [
            plan_units([UnitArm(u, "enhance", alpha=1.0, layers=layers, units=u, k=k)], banks[u], 0)
            for u, k in ENHANCED.items()
        ]
        conds = [[made.cond[u, 0, e] for e in range(len(EMOTIONS))] for u, made in zip(ENHANCED, plans, strict=True)]
        assert conds[0] == conds[1]  # one condition per emotion edits both
        rows = [Row(p, c, decoding="circuit") for p in range(len(replied)) for c in conds[0]]
        return generate(lm, replied, rows, [e for made in plans for e in made.edits], shape.tokens, shape.batch_size)

    part, _ = timed(lm, "modulated replies", len(replied) * len(EMOTIONS), best, modulated)
    yield part


def edits_of(lm: LM, k: int) -> list[Edit]:
    """Return steering with ``k`` different vectors in every edited block, one condition each."""
    layers = range(round(DEPTH[0] * lm.n_layers), round(DEPTH[1] * lm.n_layers))
    vectors = unit_vectors(lm.n_layers, k, lm.d)
    return [Edit(Site.RESID_POST, at, Add(vectors[at], torch.arange(k), torch.full((k,), ALPHA))) for at in layers]


def generation(lm: LM, samples: Samples, shape: Shape, best: Peak) -> Iterator[Speed]:
    """Yield tokens per second of one batch, unedited and with more and more different edits in it."""
    some = prompt_ids(lm, ElicitationConfig("paper"), [*samples.extraction, *samples.test], None)
    prompts = [some[i % len(some)] for i in range(shape.rows)]
    count = shape.rows * shape.tokens
    held = sum(x.nbytes for x in lm.model.parameters())
    for k in (0, *shape.edits):
        edits = edits_of(lm, k) if k else []
        rows = [Row(p, p % k if k else NO_EDIT) for p in range(shape.rows)]

        def ours(limit: int = shape.tokens, rows: list[Row] = rows, edits: list[Edit] = edits) -> list[list[int]]:
            lm.prefixes.clear()
            return generate(lm, prompts, rows, edits, limit, shape.rows)

        def theirs(edits: list[Edit] = edits) -> list[list[int]]:
            return peer(lm, prompts, shape.tokens, edits)

        with patch.object(LM, "stop_ids", lambda _: set()):  # as many tokens on both sides
            ours(2)  # warms up
            seconds, mine = _timed(lm, ours)
            waits = _waits(lm, ours, shape.tokens)
            if k > 1:
                yield Speed(
                    f"K={k}", count / seconds, None, None, None, None, _reads(held, shape, seconds, best), waits
                )
                continue
            theirs()
            peer_s, other = _timed(lm, theirs)
        first = sum(a[0] == b[0] for a, b in zip(mine, other, strict=True)) / len(other)
        same = sum(_common(a, b) for a, b in zip(mine, other, strict=True)) / count
        agree = same == 1 if shape.dtype == "float32" else first >= ALIKE
        yield Speed(
            f"K={k}" if k else "unedited", count / seconds, count / peer_s, peer_s / seconds if agree else None,
            first, same, _reads(held, shape, seconds, best), waits,
        )  # fmt: skip


def _timed(lm: LM, run: Callable[[], Any]) -> tuple[float, Any]:
    start = wait(lm.device)
    found = run()
    return wait(lm.device) - start, found


def _reads(held: int, shape: Shape, seconds: float, best: Peak) -> float:
    """Return the share of the copy bandwidth that reading all weights once a token takes."""
    return held * shape.tokens / seconds / best.bytes


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next((k for k, (x, y) in enumerate(zip(a, b, strict=True)) if x != y), len(a))


def _waits(lm: LM, run: Callable[[], Any], tokens: int) -> float | None:
    """Return how often the host waits for the device per token of a reply, as torch tells; None on a CPU."""
    if lm.device.type != "cuda":
        return None
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(one.message) for one in told) / tokens


@torch.inference_mode()
def peer(lm: LM, prompts: Sequence[Sequence[int]], limit: int, edits: Sequence[Edit]) -> list[list[int]]:
    """Return transformers' own greedy replies of one batch, all rows steered by the first vector with a plain hook."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=lm.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=lm.device)

    def steer(op: Add) -> Callable[[Tensor], Tensor]:
        vector, strength = op.vectors[0].to(lm.device), float(op.strength[0])

        def change(x: Tensor) -> Tensor:
            last = x[:, -1:].float()
            moved = last + strength * last.pow(2).mean(-1, keepdim=True).sqrt() * vector
            return torch.cat([x[:, :-1], moved.to(x.dtype)], 1)

        return change

    how = transformers.GenerationConfig(
        do_sample=False, max_new_tokens=limit, eos_token_id=None, pad_token_id=0, use_cache=True
    )
    ends = lm.model.generation_config.eos_token_id
    lm.model.generation_config.eos_token_id = None  # what is not given would be taken from there
    try:
        with hooked(lm, [(Site.RESID_POST, e.layer, steer(e.op)) for e in edits if isinstance(e.op, Add)]):
            made: Any = lm.model.generate(ids, attention_mask=mask, generation_config=how)
    finally:
        lm.model.generation_config.eos_token_id = ends
    return made[:, width:].tolist()


@contextmanager
def _quietly() -> Iterator[None]:
    console.setup("quiet")
    transformers.utils.logging.set_verbosity_error()
    yield
    console.setup("rich")


def main(argv: Sequence[str]) -> int:
    """Run everything, print a table and write the figures; returns the exit code."""
    parser = argparse.ArgumentParser(prog="bench.gpu", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tiny", action="store_true", help="the tiny shape on a GPU too")
    parser.add_argument("--out", type=Path, help="folder of gpu.json")
    asked = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    shape = TINY if asked.tiny or device.type == "cpu" else FULL
    note = NO_GPU if device.type == "cpu" else "tiny shape, figures say nothing" if shape is TINY else ""
    with _quietly():
        lm, samples = build(shape, device)
        print(f"{machine(lm)}{f'; {note}' if note else ''}", flush=True)
        best = peak(device, lm.model.dtype)
        print(f"at most: {best.flops / 1e12:.3g} TFLOP/s of a matrix product, {best.bytes / 1e9:.4g} GB/s of a copy")
        parts, speeds = [], []
        for part in protocol(lm, samples, shape, best):
            parts.append(part)
            print(_line(part), flush=True)
        print(f"{'the whole protocol':34} {sum(part.seconds for part in parts):9.2f} s", flush=True)
        for speed in generation(lm, samples, shape, best):
            speeds.append(speed)
            print(_row(speed), flush=True)
    folder = asked.out or (ROOT if shape is FULL else None)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        figures = {
            "machine": machine(lm), "note": note, "versions": versions(), "shape": shape._asdict(),
            "peak": best._asdict(), "parts": [x._asdict() for x in parts], "generation": [x._asdict() for x in speeds],
        }  # fmt: skip
        (folder / "gpu.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return int(any(x.peer_tokens_s is not None and x.ratio is None for x in speeds))


def _line(x: Part) -> str:
    memory = "" if x.peak_gib is None else f", {x.peak_gib:.1f} GiB"
    return (
        f"{x.part:34} {x.seconds:9.2f} s {x.items:6} items  {x.tflops:8.3g} TFLOP/s ({x.share:.0%} of the peak){memory}"
    )


def _row(x: Speed) -> str:
    waits = "" if x.waits_per_token is None else f", {x.waits_per_token:.2f} waits a token"
    told = f"{x.edits:10} {x.tokens_s:10.1f} tokens/s, weights read at {x.weights_share:.0%} of the bandwidth{waits}"
    if x.peer_tokens_s is None:
        return told
    ratio = "no ratio: they disagree" if x.ratio is None else f"{x.ratio:.2f}x"
    return (
        f"{told}; transformers {x.peer_tokens_s:.1f} ({ratio}); "
        f"equal: {x.same_first:.0%} of first tokens, {x.same:.0%} of tokens before the first difference"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
