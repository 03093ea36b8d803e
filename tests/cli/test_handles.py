"""Jobs in Python: the same words, labelled tables, and replies that are the job's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from support.jobs import overrides

import emo
import emo.circuits
from emo.cli import scripting
from emo.cli.handles import JobHandle
from emo.core.errors import UserError

pytestmark = pytest.mark.usefixtures("quiet")
CIRCUIT = ("intervention=circuit", "intervention.scale=2", "control.circuits=[random_circuit]", "circuit.budget=2x")


def made(folder: Path, *more: str) -> JobHandle:
    """Return a job of seconds that writes into ``folder``."""
    return emo.job(overrides(folder, *more))


def test_what_it_finds_is_labelled(tmp_path: Path) -> None:
    """Every table equals the tensors that the stages keep, under the right names."""
    job = made(tmp_path, *CIRCUIT)
    v = job.stages.directions.tensors["v"]
    assert job.directions.index.names == ["emotion", "layer", "sublayer"]
    one = job.directions.loc[("sadness", 2, "mlp")]
    np.testing.assert_array_equal(one.to_numpy(), v[job.emotions.index("sadness"), 2, 1].numpy())
    ranking = job.ranking("fear", "heads")
    scores = job.stages.attribution.tensors["heads"][job.emotions.index("fear")]
    best = ranking.iloc[0]
    assert best["score"] == pytest.approx(float(scores.max())) and ranking["score"].is_monotonic_decreasing
    assert float(scores[int(best["layer"]), int(best["unit"])]) == pytest.approx(float(best["score"]))
    values = job.stages.importance.tensors["values"].mean(0)
    assert job.importance.loc["anger", (3, "attention")] == pytest.approx(float(values[0, 3, 0]))
    assert job.reference.shape == (3, v.shape[-1])
    units = job.circuit_units
    assert len(units[(units["emotion"] == "anger") & (units["kind"] == "heads")]) == sum(job.circuit.quotas("heads")[0])
    assert not (tmp_path / "run").exists(), "nothing was run for it"


def test_results_and_replies(tmp_path: Path) -> None:
    """Emotion and valence are columns; a second handle of the same words finds it done."""
    job = made(tmp_path, "intervention=steer")
    results = job.results
    told = json.loads((job.folder / "result.json").read_text())["arms"]
    row = results.query("arm == 'steer' and metric == 'ppl_ratio' and emotion == 'anger' and valence == 'negative'")
    assert row["value"].item() == pytest.approx(told["steer"]["ppl_ratio/anger/negative"]["value"])
    assert (results["metric"].str.contains("/")).sum() == 0
    replies = made(tmp_path, "intervention=steer").replies
    assert {"arm", "sample", "emotion", "reply", "valence"} <= set(replies) and len(replies) > 10


@pytest.mark.parametrize(("model", "scale"), [("tiny_llama", 2), ("tiny_qwen2", 2), ("tiny_gemma3", 60)])
def test_replies_are_the_jobs(model: str, scale: int, tmp_path: Path) -> None:
    """Asked by the ids of test samples, `emo.circuits.write(like=job)` gives the replies that the job wrote."""
    words = (*CIRCUIT, f"model={model}", f"intervention.scale={scale}")  # behind a norm 2 changes no token
    job = made(tmp_path, *words)
    written = job.replies
    own = written[(written["arm"] == "circuit") & (written["emotion"] == "fear")]
    again = emo.circuits.write(job.circuit, job.lm, list(own["sample"]), "fear", like=job)
    assert again == own["reply"].tolist() and len(again) == 4
    plain = job.write(list(own["sample"]), "fear", arm="none")
    assert plain == written[written["arm"] == "none"]["reply"].tolist() and plain != again
    assert len(job.write("My train leaves in ten minutes.", "fear")) == 1
    saved = emo.circuits.load(job.folder)
    assert emo.circuits.write(saved, job.lm, list(own["sample"]), "fear", like=job) == again
    emo.circuits.save(saved, tmp_path / "card", result=job)
    card = (tmp_path / "card" / "README.md").read_text(encoding="utf-8")
    assert "| random_circuit |" in card and "circuit - " in card and str(tmp_path) not in card
    other = made(tmp_path, *words, "circuit.budget=1x")
    with pytest.raises(UserError, match="another circuit"):
        emo.circuits.save(other.circuit, tmp_path / "other", result=job)


def test_steering_a_model_with_a_vector(tmp_path: Path) -> None:
    """A job's own direction at its own strength changes the logits as the job does; zero changes nothing."""
    lm = made(tmp_path).lm
    vector = torch.randn(lm.d, generator=torch.Generator().manual_seed(0))
    [plain], [same] = (emo.steer(lm, vector, "Hello there.", alpha, "1-2", max_new_tokens=8) for alpha in (0.0, 0.0))
    [steered] = emo.steer(lm, vector, ["Hello there."], 8.0, "all", max_new_tokens=8)
    assert emo.steer(lm, vector.numpy(), ["Hello there."], 8.0, "all", max_new_tokens=8) == [steered]
    [scaled] = emo.steer(lm, 5 * vector.expand(lm.n_layers, -1), ["Hello there."], 8.0, "all", max_new_tokens=8)
    assert plain == same != steered == scaled
    for wrong, said in ((torch.zeros(lm.d), "no direction"), (torch.ones(3), r"shape \[3\]")):
        with pytest.raises(UserError, match=said):
            emo.steer(lm, wrong, "Hello.", 1.0, "all")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["intervention=stear"], "intervention"),
        (["intervention.alhpa=2"], "intervention.alhpa"),
        (["intervention=mask"], "labelled texts"),
    ],
)
def test_wrong_words(words: list[str], said: str, tmp_path: Path) -> None:
    """One line, as on the command line."""
    with pytest.raises(UserError, match=said):
        emo.job(["model=tiny_llama", f"paths.outputs={tmp_path}", *words])


@pytest.mark.parametrize("line", ["model=tiny_llama", ["model=tiny_llama"], ""])
def test_a_sweep_of_nothing_is_refused(line: str | list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would silently begin one whole job, which may take hours; no process is started."""
    monkeypatch.setattr(scripting.subprocess, "run", lambda *_, **__: pytest.fail("it was started"))
    with pytest.raises(UserError, match=r"nothing is swept.*sweeps=NAME or -m KEY=A,B.*emo\.job\(.*\)\.run\(\)"):
        emo.sweep(line)


@pytest.mark.parametrize("line", ["sweeps=alpha model=tiny_llama", "-m seed=0,1", ["--multirun", "seed=0"]])
def test_what_sweeps_is_started(line: str | list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep of one job, where -m says that it is one."""

    def started(command: list[str], **_: object) -> None:
        raise InterruptedError(" ".join(command))

    monkeypatch.setattr(scripting.subprocess, "run", started)
    with pytest.raises(InterruptedError, match="-m emo .* console=quiet"):
        emo.sweep(line)


@pytest.mark.slow
@pytest.mark.long
def test_a_sweep(tmp_path: Path) -> None:
    """By its line, in a process of its own; its comparisons beside."""
    words = [w for w in overrides(tmp_path, "dataset.limit=5", "name=alphas") if not w.startswith("console")]
    frame = emo.sweep(["-m", *words, "intervention.alpha=1,2"])
    assert sorted(frame["intervention.alpha"].unique()) == [1, 2]
    compared = emo.compare(tmp_path / "alphas")
    assert isinstance(compared, pd.DataFrame) and set(compared["axis"]) == {"intervention.alpha"}
    assert (compared.query("arm == 'none'")["difference"] == 0).all()
    with pytest.raises(UserError, match="intervention"):
        emo.sweep("-m intervention=stear,steer")
    with pytest.raises(UserError, match="no finished result"):
        emo.compare(tmp_path / "nothing")
