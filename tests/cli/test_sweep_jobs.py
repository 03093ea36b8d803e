"""Experiments of several unlike jobs: their list, what the command line replaces, their names, table and report."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import command
from support.jobs import overrides

import emo
from emo.cli.job_lists import read_jobs, split
from emo.core.errors import UserError
from emo.report.elements import write_page
from emo.report.job_sections import job_sections, linked, read_figures

STEER, ABLATE = "intervention=steer evaluator=margin", "intervention=ablate_neurons evaluator=projection"
LIST = f'["{STEER}", "{ABLATE} intervention.k=[0, 2]"]'


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Run an experiment of two jobs on a tiny model; what a test gives stands instead of the same key's word."""
    words = [word for word in overrides(folder, "console=rich", "control.score_seeds=2", *more)
             if not word.startswith("evaluator=") or word in more]  # fmt: skip
    listed = [] if any(word.startswith("hydra.sweeper.jobs") for word in more) else [f"hydra.sweeper.jobs={LIST}"]
    return command.run(folder, "-m", *words, *listed)


def test_words_end_at_spaces_outside_of_brackets_and_quotes() -> None:
    assert split("a=1  b=[0, 2,[3, 4]] c='x y' ") == ["a=1", "b=[0, 2,[3, 4]]", "c='x y'"]
    assert split('a={x: 1, y: "}"} b=f(1, 2)') == ['a={x: 1, y: "}"}', "b=f(1, 2)"]
    assert split(r"a='it\'s so' b=2") == [r"a='it\'s so'", "b=2"]
    assert read_jobs(None) == read_jobs([]) == []


@given(st.lists(st.sampled_from(["a=1", "b=[1, 2]", "c='d e'", "+f.g={x: [1, 2]}", '~h="( "']), min_size=1))
def test_what_is_joined_is_split_again(words: list[str]) -> None:
    assert split("  ".join(words)) == words


@pytest.mark.parametrize("given", ["a=1", 3, [""], ["a=1", 2], [["a=1"]], ["a"], ["a=[1,2"], ["a=1]"], ["a='x"]])
def test_wrong_lists_are_refused(given: object) -> None:
    with pytest.raises(UserError, match=r"hydra\.sweeper\.jobs") as refused:
        read_jobs(given)
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the folder and output of the two jobs."""
    folder = tmp_path_factory.mktemp("experiment")
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_the_jobs_are_told_apart_by_what_they_set(experiment: tuple[Path, str]) -> None:
    folder, said = experiment
    assert said.splitlines()[0] == "2 jobs: 2 to run, 0 already done"
    assert "[1/2] intervention=steer evaluator=margin" in said.splitlines()
    assert "[2/2] intervention=ablate_neurons evaluator=projection intervention.k=[0,2]" in said.splitlines()
    frame = emo.load_results(folder / "run")
    assert frame.attrs["axes"] == ["intervention", "evaluator", "intervention.k"]
    k = frame.groupby("intervention")["intervention.k"]
    assert k.count()["steer"] == 0  # k says nothing of steering
    assert set(frame.loc[frame["arm"] == "ablate_neurons@k=2", "intervention.k"]) == {2.0}


def test_the_same_line_again_runs_nothing(experiment: tuple[Path, str]) -> None:
    folder, _ = experiment
    again = run(folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[0] == "2 jobs: 0 to run, 2 already done"
    kept = json.loads((folder / "run" / "sweep.json").read_text())
    assert kept["experiment"] is True
    assert "hydra.sweeper.jobs=" in kept["command"]  # else the line would continue something else


def test_the_page_has_a_section_per_job_with_all_its_figures(experiment: tuple[Path, str]) -> None:
    root = experiment[0] / "run"
    page = (root / "report.html").read_text()
    jobs = json.loads((root / "sweep.json").read_text())["jobs"]
    sections = re.findall(r'<details class="job" open><summary>(.*?)</summary>(.*?)</details>', page, re.DOTALL)
    assert [name for name, _ in sections] == [STEER, f"{ABLATE} intervention.k=[0,2]"]
    for job, (_, section) in zip(jobs, sections, strict=True):
        folder = root / job["address"][:16]
        result = json.loads((folder / "result.json").read_text())
        own = (folder / "report.html").read_text()
        assert section.count("<img ") == len(list(folder.glob("*.png"))) == len(result["figures"]) > 2
        images = re.findall(r'src="(data:image/png;base64,[^"]*)"', section)
        assert images == re.findall(r'src="(data:image/png;base64,[^"]*)"', own)  # in the same order
        assert f'href="{folder.name}/report.html"' in section
        assert "test prompts for each of 3 emotions" in section
        assert all(html.escape(figure["caption"]) in section for figure in result["figures"])


def test_many_figures_are_linked_and_a_grid_is_folded(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "x.png").write_bytes(b"0" * 300)
    shown = [{"file": "x.png", "caption": "A & B."}, {"file": "gone.png", "caption": ""}]
    job = read_figures("k=<2>", "a b", tmp_path / "a b", {"facts": {"n": "<3>"}, "figures": shown})
    assert not linked([job], tmp_path, limit=400)
    assert linked([job], tmp_path, limit=399)
    section = job_sections([job], tmp_path, unfolded=False, link=True)
    assert section.count("<img ") == 1
    assert 'src="a%20b/x.png"' in section
    assert "data:" not in section
    assert '<details class="job"><summary>k=&lt;2&gt;<' in section
    assert "&lt;3&gt;" in section
    assert "A &amp; B." in section
    assert read_figures("k", "a b", tmp_path / "a b", {}).figures == [("x.png", "x")]  # of results before captions
    for link, policy in ((True, "img-src data: 'self' file:;"), (False, "img-src data:;")):
        assert policy in write_page(tmp_path, "t", [section], linked=link).read_text()


@pytest.mark.slow
def test_what_is_typed_wins_and_multiplies(tmp_path: Path) -> None:
    said = run(tmp_path, "task=status", "model=tiny_llama,tiny_qwen2", "intervention.k=3").stdout
    words = " ".join(said.partition("to go on: ")[0].split())
    assert "4 jobs: 0 done, 0 failed, 4 missing" in words
    assert "intervention.k" not in words  # one value for all jobs now
    one = run(tmp_path, "task=status", "intervention=steer", "evaluator=margin")
    assert "2 combinations are 1 different jobs" in " ".join((one.stdout + one.stderr).split())
    none = run(tmp_path, "task=status", "hydra.sweeper.jobs=[]", "intervention.alpha=1,2")
    assert "2 jobs: 0 done" in " ".join(none.stdout.split())


def test_a_job_of_several_values_is_one_for_each(tmp_path: Path) -> None:
    """So a design of one key at a time is a list of as many jobs as keys; what they share stands there once."""
    listed = 'hydra.sweeper.jobs=["intervention.decay=0.5,1","intervention.decay=1,0.8"]'
    said = " ".join(run(tmp_path, "task=status", "evaluator=projection", listed).stdout.split())
    assert "3 jobs: 0 done" in said


@pytest.mark.parametrize(
    ("jobs", "line"),
    [
        ("intervention", "not a list"),
        ('["intervention=steer","intervention=nonsense"]', "intervention=nonsense: not one of"),
        ('["intervention.kk=2","intervention=steer"]', "intervention.kk: no such key"),
        ('["intervention=steer","intervention=ablate_neurons intervention.k=9999"]', "1 of 2 jobs"),
        ('["intervention.k=1,,2"]', "cannot be read"),
    ],
)
def test_a_wrong_job_starts_nothing(tmp_path: Path, jobs: str, line: str) -> None:
    done = run(tmp_path, f"hydra.sweeper.jobs={jobs}")
    assert done.returncode == 2, done.stderr
    assert all(text.startswith("error: ") for text in done.stderr.splitlines())
    assert line in done.stderr
    assert not list(tmp_path.iterdir())
