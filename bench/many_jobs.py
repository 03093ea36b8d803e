"""A sweep of some hundred finished jobs, typed again: what its line costs where nothing is left to compute.

One job runs; its result folder is then copied to the address of every other job, with values of its own. So what is
timed is composing, checking, finding and tabulating, on as many results as a large sweep has.

    python -m bench.many_jobs [JOBS]
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from hydra import compose, initialize_config_dir

from emo.cli.run import run_job
from emo.config.check import REPOSITORY, to_config
from emo.config.schema import Config
from emo.pipeline.jobs import make_job
from emo.results.result_file import RESULT, write_json
from emo.results.table import load_results, to_table

MODELS = ("tiny_llama", "tiny_gpt2", "tiny_qwen3")
JOBS = 300
SMALL = (
    "dataset.limit=2",
    "intervention.layers=1-2",
    "control.seeds=2",
    "evaluator=margin",
    "elicitation.judge=none",
    "generation.max_new_tokens=4",
    "evaluator.bootstrap=20",
    "device=cpu",
    "console=quiet",
)
TABLE = ("results.csv", "results.jsonl", "results.parquet", "report.html")


def main(jobs: int = JOBS) -> dict[str, Any]:
    """Time the line of a sweep with all of its jobs done: CPU seconds of the first and of later calls, and sizes."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        alphas = [f"{1 + n / 100:g}" for n in range(jobs // len(MODELS))]
        expected = fabricate(folder, alphas)
        words = ["-m", f"model={','.join(MODELS)}", f"intervention.alpha={','.join(alphas)}", *_words(folder)]
        seconds = [_cpu_seconds(words, folder) for _ in range(3)]
        root = folder / "run"
        pd.testing.assert_frame_equal(load_results(root), expected)  # agreement before a number is printed
        sizes = {name: (root / name).stat().st_size for name in TABLE if (root / name).is_file()}
        return {"jobs": len(alphas) * len(MODELS), "rows": len(expected), "cpu_s": seconds, "bytes": sizes}


def fabricate(folder: Path, alphas: list[str]) -> pd.DataFrame:
    """Write the results of all jobs below ``folder``, and return the table that they make."""
    results = []
    source: Path | None = None
    for config in _configs(folder, alphas):
        job = make_job(config)
        target = Path(config.paths.outputs) / config.name / job.result_address[:16]
        if source is None:
            source = target
            if run_job(config):
                raise RuntimeError("the job that is copied failed")
        else:
            shutil.copytree(source, target)
        result = json.loads((source / RESULT).read_text(encoding="utf-8"))
        scale = 1 + len(results) / 1000
        for metrics in result["arms"].values():
            for x in metrics.values():
                x["value"] = None if x["value"] is None else x["value"] * scale
        result |= {"address": job.result_address, "config": asdict(config)}
        write_json(target / RESULT, result)
        results.append(result)
    return to_table(results, ["model", "intervention.alpha"])


def _configs(folder: Path, alphas: list[str]) -> list[Config]:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        first = [to_config(compose("config", [f"model={model}", *_words(folder)])) for model in MODELS]
    made = []
    for config in first:
        for alpha in alphas:
            given = asdict(config)
            given["intervention"]["alpha"] = float(alpha)
            made.append(_typed(given))
    return made


def _typed(given: dict[str, Any]) -> Config:
    from omegaconf import OmegaConf

    return to_config(OmegaConf.create(given))


def _words(folder: Path) -> list[str]:
    return [*SMALL, f"paths.outputs={folder}"]


def _cpu_seconds(words: list[str], folder: Path) -> float:
    """Return user and system seconds of a process with this line."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    line = [sys.executable, str(REPOSITORY / "run.py"), *words]
    subprocess.run(line, check=True, cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*map(int, sys.argv[1:2])), indent=1) + "\n")
