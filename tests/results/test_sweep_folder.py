"""Several sweeps of one name, one after the other and at once: each keeps its list and its table."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.jobs import config
from support.sweep_lines import _environment, command
from support.sweep_plans import FAST, make, strengths, work

import emo
from emo.cli import plan, tasks
from emo.cli.run import run_job
from emo.core import console
from emo.results.table import EARLIER


@pytest.mark.usefixtures("quiet")
def test_two_heads_at_once_keep_their_tables(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The second starts while the first runs, and ends first."""
    one, two = make(tmp_path, 0.5, 1), make(tmp_path, 1, 2)
    first = plan.announce(one)
    work(first[:1])
    second = plan.announce(two)
    root, aside = tmp_path / "run", tmp_path / "run" / EARLIER / one.id
    assert plan.place(root, one.jobs[0].address).startswith("[1/2]")  # jobs of both find their place
    assert plan.place(root, two.jobs[1].address).startswith("[2/2]")
    work(second)
    assert not plan.conclude(two)
    work(first[1:])
    capfd.readouterr()
    console.setup("rich")  # a job sets its own
    assert not plan.conclude(one)
    said = capfd.readouterr().out.replace("\n", "")
    assert str(aside / "results.csv") in said and str(root / "results.csv") not in said
    assert strengths(root) == [1.0, 2.0] and strengths(aside) == [0.5, 1.0]
    for folder in (root, aside):
        assert (folder / "results.csv").is_file() and (folder / "report.html").is_file()
    tasks.run_task(config(tmp_path, "task=status", FAST, "console=rich"))
    said = " ".join(capfd.readouterr().out.split())  # titles are wrapped where they are long
    assert said.count("2 done, 0 failed, 0 missing") == 2 and "not of this sweep" not in said
    (aside / "results.csv").unlink()
    tasks.run_task(config(tmp_path, "task=summarize", FAST))
    assert (aside / "results.csv").is_file() and strengths(aside) == [0.5, 1.0]


@pytest.mark.usefixtures("quiet")
def test_one_job_of_a_sweep_again_leaves_its_table(tmp_path: Path) -> None:
    """Typed as a sweep of one, or alone; and a sweep whose turn comes again has the folder of the name again."""
    whole, part, other = make(tmp_path, 0.5, 1), make(tmp_path, 1), make(tmp_path, 4)
    work(plan.announce(whole))
    plan.conclude(whole)
    before = (tmp_path / "run" / "results.csv").read_bytes()
    assert run_job(whole.jobs[1].config) == 0
    assert plan.announce(part) == []
    plan.conclude(part)
    assert (tmp_path / "run" / "results.csv").read_bytes() == before
    assert strengths(tmp_path / "run") == [0.5, 1.0]
    assert emo.load_results(tmp_path / "run" / EARLIER / part.id)["job"].nunique() == 1
    work(plan.announce(other))
    plan.conclude(other)
    assert strengths(tmp_path / "run" / EARLIER / whole.id) == [0.5, 1.0]
    assert plan.announce(whole) == []
    plan.conclude(whole)
    assert strengths(tmp_path / "run") == [0.5, 1.0]
    assert not (tmp_path / "run" / EARLIER / whole.id).exists()
    assert emo.load_results(tmp_path / "run" / EARLIER / other.id)["job"].nunique() == 1


@pytest.mark.usefixtures("quiet")
def test_two_heads_of_one_sweep(tmp_path: Path) -> None:
    one, same = make(tmp_path, 0.5, 1), make(tmp_path, 0.5, 1)
    first, second = plan.announce(one), plan.announce(same)
    work(first)
    work(second)  # done meanwhile
    plan.conclude(same)
    before = (tmp_path / "run" / "results.csv").read_bytes()
    plan.conclude(one)
    assert (tmp_path / "run" / "results.csv").read_bytes() == before
    assert strengths(tmp_path / "run") == [0.5, 1.0] and not (tmp_path / "run" / EARLIER).exists()


@pytest.mark.slow
def test_two_processes_with_sweeps_of_one_name(tmp_path: Path) -> None:
    lines = [command(tmp_path, FAST, f"intervention.alpha={alphas}") for alphas in ("0.5,1", "2,4")]
    heads = [
        subprocess.Popen(line, cwd=tmp_path, env=_environment(), stdout=subprocess.PIPE, text=True) for line in lines
    ]
    said = [head.communicate(timeout=300)[0] for head in heads]
    assert [head.returncode for head in heads] == [0, 0], said
    root = tmp_path / "outputs" / "run"
    [aside] = (root / EARLIER).iterdir()
    assert sorted(map(strengths, (root, aside))) == [[0.5, 1.0], [2.0, 4.0]]
    for table in (root / "results.csv", aside / "results.csv"):
        assert sum(f"table: {table}" in text.replace("\n", "") for text in said) == 1
