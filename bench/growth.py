"""How cost grows with samples, conditions, blocks and width: fitted exponents, drawn in one figure.

``python -m bench.growth [--out FOLDER] [--quick]`` measures the k-curve's work (`emo.measure.projections`) on random
models that are built in code, prints a line per curve and writes growth.png. Expected: linear in samples and blocks,
linear in conditions with the slope of one token, no more memory for more samples.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import transformers
from scipy import stats

from bench.inputs import EMOTIONS, MODELS, TINY, unit_vectors
from bench.meters import counted, peak_mib, reset_peak, seconds
from emo.core import console
from emo.core.types import Site
from emo.edit.banks import UnitBank
from emo.edit.units import UnitArm, plan_units
from emo.measure.projections import projections
from emo.model.lm import LM
from emo.model.load import describe
from emo.model.passes import Row
from emo.model.tiny import tiny_config, tiny_tokenizer

ROUNDS = 5
TOKENS = 64  # of a prompt; random ones, so no two prompts share their beginning
HEAD_WIDTH = 32
K = 8  # units that a condition zeroes in every block
BATCH = 16  # prompts of a forward pass: few samples must fill one, or memory would grow with its filling


class Job(NamedTuple):
    """One piece of work."""

    samples: int = 16
    conditions: int = 16
    blocks: int = 4
    width: int = 256


class Cost(NamedTuple):
    """What a job took."""

    seconds: float
    tokens: int
    operations: int
    memory: int  # MiB at the peak, without the prompts that are kept for later (bounded: emo.model.prefix_cache)


class Fit(NamedTuple):
    """A slope with its 95 % interval; of logarithms an exponent."""

    slope: float
    half: float
    intercept: float

    def __str__(self) -> str:
        return f"{self.slope:.2f} [{self.slope - self.half:.2f}, {self.slope + self.half:.2f}]"


SWEEPS: dict[str, tuple[int, ...]] = {
    "samples": (16, 32, 64, 128, 256),
    "conditions": (8, 16, 32, 64, 128, 256),
    "blocks": (2, 4, 8, 16, 32),
    "width": (64, 128, 256, 512),
}


def random_model(job: Job) -> LM:
    """Return a llama of the sizes of ``job`` with random weights."""
    sizes = {
        "num_hidden_layers": job.blocks,
        "hidden_size": job.width,
        "intermediate_size": 3 * job.width,
        "num_attention_heads": job.width // HEAD_WIDTH,
        "num_key_value_heads": job.width // HEAD_WIDTH,
        "head_dim": HEAD_WIDTH,
    }
    config = transformers.LlamaConfig(**tiny_config("llama").to_dict() | sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    spec = describe(MODELS[TINY])._replace(n_layers=job.blocks)
    return LM(model.eval().requires_grad_(False), tiny_tokenizer(), spec)


def work(job: Job) -> tuple[LM, Callable[[], torch.Tensor]]:
    """Return the model and the work of ``job``: every prompt under every condition, read in every block."""
    lm, draw = random_model(job), torch.Generator().manual_seed(0)
    prompts = torch.randint(3, len(lm.tokenizer), (job.samples, TOKENS), generator=draw).tolist()
    scores = torch.randn(len(EMOTIONS), lm.n_layers, lm.f, generator=draw)
    bank = UnitBank(Site.NEURON, scores, scores, scores.abs(), 1)
    arm = UnitArm("random", "ablate_neurons", layers=range(lm.n_layers), seeds=job.conditions, pick="random", k=K)
    made = plan_units([arm], bank, 0)
    rows = [Row(p, made.cond["random", seed, 0]) for p in range(job.samples) for seed in range(job.conditions)]
    v = unit_vectors(len(EMOTIONS), lm.n_layers, lm.d)

    def run() -> torch.Tensor:
        lm.prefixes.clear()  # the prompts are read in the time that is measured
        return projections(lm, prompts, rows, made.edits, v, BATCH)[0]

    return lm, run


def cost(job: Job, rounds: int = ROUNDS) -> Cost:
    """Return what ``job`` takes; seconds are the median of ``rounds``."""
    lm, run = work(job)
    with counted(lm) as through:
        run()
    reset_peak()
    taken = [seconds(lm, run) for _ in range(rounds)]
    kept = sum(x.nbytes for prefix in lm.prefixes.values() for pair in prefix for x in pair)
    return Cost(statistics.median(taken), through.tokens, through.operations, peak_mib() - kept // 2**20)


def line_of(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Return the least-squares line of ``y`` on ``x``."""
    found = stats.linregress(x, y)
    return Fit(found.slope, float(stats.t.ppf(0.975, len(x) - 2)) * found.stderr, found.intercept)


def exponent(x: Sequence[float], y: Sequence[float]) -> Fit:
    """Return the exponent of ``y`` in ``x``."""
    return line_of(np.log(x).tolist(), np.log(y).tolist())


def token_slope(conditions: Sequence[int], taken: Sequence[float], samples: int) -> Fit:
    """Return what a condition costs, in tokens of a prompt, from the seconds that numbers of conditions take.

    The line's intercept is what reading the prompts takes; the interval is that of the slope.
    """
    line = line_of(conditions, taken)
    token = line.intercept / (samples * TOKENS)
    return Fit(line.slope / samples / token, line.half / samples / token, 0.0)


def growth(rounds: int, sweeps: dict[str, tuple[int, ...]]) -> dict[str, list[Cost]]:
    """Return the costs along every sweep; the others of a job's sizes stay as they are."""
    cost(Job(samples=64), 1)  # what a process needs once is not counted
    return {name: [cost(Job(**{name: value}), rounds) for value in values] for name, values in sweeps.items()}


def findings(costs: dict[str, list[Cost]], sweeps: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Return a line for every curve: what grows with what, and how."""
    x, took = sweeps, {name: [one.seconds for one in found] for name, found in costs.items()}
    samples, conditions = costs["samples"], costs["conditions"]
    per = line_of(x["conditions"], [one.tokens / Job().samples for one in conditions])
    condition = token_slope(x["conditions"], took["conditions"], Job().samples)
    width = [one.operations for one in costs["width"]]
    return {
        "samples": f"time ~ samples^{exponent(x['samples'], took['samples'])} (expected 1)",
        "conditions": f"a condition takes the time of {condition} tokens of a prompt of {TOKENS}; "
        f"tokens forwarded: {per} (expected 1)",
        "blocks": f"time ~ blocks^{exponent(x['blocks'], took['blocks'])} (expected 1)",
        "width": f"time ~ width^{exponent(x['width'], took['width'])}; "
        f"operations ~ width^{exponent(x['width'], width)} (expected 2)",
        "memory": f"peak ~ samples^{exponent(x['samples'], [one.memory for one in samples])} (expected 0), beside "
        f"kept prompts; {samples[0].memory} to {samples[-1].memory} MiB",
    }


def draw(costs: dict[str, list[Cost]], sweeps: dict[str, tuple[int, ...]], said: dict[str, str], path: Path) -> None:
    """Draw a panel for every line of ``findings``."""
    import matplotlib

    matplotlib.use("Agg")
    import textwrap

    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(said), figsize=(3.6 * len(said), 3.8), layout="constrained")
    for ax, (name, text) in zip(axes, said.items(), strict=True):
        along = "samples" if name == "memory" else name
        x = np.array(sweeps[along])
        y = np.array([one.memory if name == "memory" else one.seconds for one in costs[along]])
        grid = np.geomspace(x[0], x[-1])
        if name == "conditions":  # what reading the prompts takes is there without any
            fit = line_of(x, y)
            fitted = fit.intercept + fit.slope * grid
        else:
            fit = exponent(x, y)
            fitted = np.exp(fit.intercept) * grid**fit.slope
            ax.set_xscale("log")
            ax.set_xticks(x, [str(value) for value in x])
        if name in ("conditions", "memory"):
            ax.set_ylim(0, 1.2 * y.max())
        else:
            ax.set_yscale("log")
            ax.set_yticks(y, [f"{value:.2g}" for value in y])
        ax.minorticks_off()
        ax.plot(x, y, "o", color="tab:blue")
        ax.plot(grid, fitted, color="tab:blue", linewidth=1)
        ax.set(xlabel=along, ylabel="peak memory, MiB" if name == "memory" else "seconds")
        ax.set_title(textwrap.fill(text, 42), fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(argv: Sequence[str]) -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="folder of growth.png")
    parser.add_argument("--quick", action="store_true", help="one round and the smaller half of every sweep")
    asked = parser.parse_args(argv)
    console.setup("quiet")
    sweeps = {name: values[:3] for name, values in SWEEPS.items()} if asked.quick else SWEEPS
    costs = growth(1 if asked.quick else ROUNDS, sweeps)
    said = findings(costs, sweeps)
    for name, text in said.items():
        print(f"{name}: {text}")
    draw(costs, sweeps, said, asked.out / "growth.png")


if __name__ == "__main__":
    main(sys.argv[1:])
