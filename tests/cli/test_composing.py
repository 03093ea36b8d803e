"""Jobs composed on a shared base are Hydra's own to the last key, and cost a fraction of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from emo.cli.composing import Composer
from emo.cli.job_lists import read_jobs
from emo.cli.sweeper import combine, register_presets
from emo.config import error_text as cli
from emo.config.check import REPOSITORY, to_config

pytestmark = pytest.mark.long  # every preset by Hydra, which is what takes time

PRESETS = [f"sweeps={path.stem}" for path in sorted((REPOSITORY / "sweeps").glob("*.yaml"))]
EXPERIMENTS = [f"experiment={path.stem}" for path in sorted((REPOSITORY / "conf" / "experiment").glob("*.yaml"))]
TINY = "model=tiny_llama"
ODD = [
    ["+emotions.words={anger: wrath}"],
    ["emotions.words={fear: dread}", "emotions.names=[anger,fear]"],
    ["+emotions.words.fear=dread"],
    ["++seed=3", "generation.max_new_tokens=7"],
    ["~experiment"],
    ["~cluster", "~sweeps=null"],
    ["intervention=mask", "selector=lap", "intervention.ratio=[0.1,0.2]"],
    ["intervention.select.alpha=[1,2]", "intervention.scale={anger: 1, fear: 2}"],
    ["name=job_${seed}", "seed=4"],
    ["paths.store=${paths.outputs}/elsewhere", "paths.outputs=/nowhere"],
    ["dataset@dataset=jsonl", "dataset.path=mine.jsonl"],
    ["tracker=wandb", "tracker.tags=[a,b]", "tracker.group=null"],
    ["experiment=paper_steering", "size=full", "dataset.limit=3"],
    ["seed=1", "seed=2"],
    ["evaluator={name: margin}"],
    ["intervention.alpha='0.5'", "model.chat=plain", "dtype=float32"],
    ["hydra.job.name=other", "name=x"],
]
WRONG = [
    ["intervention.alhpa=1"], ["model=lama"], ["+seed=1"], ["seed=1,2"], ["seed=many"], ["~nothing"],
    ["emotions=anger"], ["evaluator@x=margin"], ["+model=tiny_gpt2"], ["name=${nothing}"],
    ["seed@here=1"], ["model=null"],
]  # fmt: skip


@pytest.fixture(scope="module")
def loader() -> Iterator[Any]:
    register_presets()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def swept(loader: Any, *words: str) -> DictConfig:
    """Return the composed configuration of a sweep itself; the words choose its preset."""
    made: DictConfig = loader.load_configuration("config", [TINY, *words], RunMode.MULTIRUN)
    return made


def outcome(compose: Any, words: list[str]) -> object:
    """Return all values of a job, unresolved and checked, or the line that a user reads."""
    try:
        made = compose(words)
        plain = {key: x for key, x in OmegaConf.to_container(made, resolve=False).items() if key != "hydra"}
        return plain, to_config(made)
    except Exception as error:
        return str(cli.explain(error)) if cli.is_refusal(error) else str(error)


@pytest.mark.slow
@pytest.mark.parametrize("preset", [*PRESETS, *EXPERIMENTS])
def test_jobs_of_presets_and_experiments_are_hydras_own(loader: Any, preset: str) -> None:
    master = swept(loader, preset)
    sweeper = master.hydra.sweeper
    params = [f"{key}={value}" for key, value in (sweeper.params or {}).items()]
    second = ["against=tiny_qwen2"] if preset == "experiment=finetune_stability" else []  # it asks for another model
    jobs = combine(loader, params, read_jobs(sweeper.jobs), [preset, TINY, *second])
    fast = Composer(loader, master)
    got = outcome(fast.compose, jobs[-1])
    assert got == outcome(lambda words: loader.load_sweep_config(master, words), jobs[-1])
    assert isinstance(got, tuple)


@pytest.mark.slow
def test_odd_overrides_are_hydras_own(loader: Any) -> None:
    master = swept(loader)
    fast = Composer(loader, master)
    refused = []
    for words in [*ODD, *WRONG]:
        got = outcome(fast.compose, [TINY, *words])
        assert got == outcome(lambda words: loader.load_sweep_config(master, words), [TINY, *words]), words
        refused += [(words, got)] if isinstance(got, str) else []
    assert len(WRONG) - 1 <= sum(words in WRONG for words, _ in refused), refused
    assert sum(words in ODD for words, _ in refused) <= 3, refused


def test_no_job_sees_what_another_one_set(loader: Any) -> None:
    fast = Composer(loader, swept(loader))
    first = to_config(fast.compose([TINY, "seed=5", "+emotions.words.anger=wrath", "emotions.names=[anger,fear]"]))
    second = to_config(fast.compose([TINY, "emotions.names=[anger,fear]"]))
    assert (first.seed, second.seed) == (5, 0)
    assert second.emotions.words is None or "anger" not in second.emotions.words


def test_a_file_of_the_searchpath_is_read(loader: Any, tmp_path: Path) -> None:
    """Groups are looked for where Hydra looks for them, for a user's own files too."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("name: mine\nsource: tiny\nid: llama\n", encoding="utf-8")
    master = swept(loader, f"hydra.searchpath=[file://{tmp_path}]")
    words = ["model=mine", "seed=2"]
    got = outcome(Composer(loader, master).compose, words)
    assert got == outcome(lambda words: loader.load_sweep_config(master, words), words)


def test_a_job_costs_a_third_of_hydras_time_at_most(loader: Any) -> None:
    """CPU time of this process, of both: other processes do not count. Measured: a seventh."""
    master = swept(loader)
    fast = Composer(loader, master)
    jobs = [[TINY, f"intervention.alpha={n}", "evaluator=margin"] for n in range(1, 12)]
    to_config(fast.compose(jobs[0]))
    start = time.process_time()
    for words in jobs[1:]:
        to_config(fast.compose(words))
    mine = (time.process_time() - start) / 10
    start = time.process_time()
    for words in jobs[:3]:
        to_config(loader.load_sweep_config(master, words))
    assert mine < (time.process_time() - start) / 3 / 3
