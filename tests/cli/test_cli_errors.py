"""A wrong request: exit code 2, one line on stderr, nothing written, from any directory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.command import run

from emo.config import error_text as cli
from emo.config.check import REPOSITORY
from emo.core.errors import UserError


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["model=smollm2_135"], "did you mean smollm2_135m?"),
        (["intervention=stear"], "did you mean steer?"),
        (["modle=gpt2"], "did you mean model?"),
        (["intervention.alhpa=3"], "did you mean intervention.alpha?"),
        (["+model.foo=1"], "keys of model are name,"),
        (["batch_size=many"], "batch_size=many: a whole number"),
        (["emotions.names=anger"], "emotions.names: a list"),
        (["generation=5"], "generation.max_new_tokens"),
        (["seed=null"], "seed=null: a value is needed"),
        (["intervention.layers=11-"], "intervention.layers=11-: not a layer range"),
        (["intervention.layers=20-11"], "11-20 is meant"),
        (["intervention.layers=0.5"], "depths need two"),
        (["dataset.limit=-1"], "dataset.limit=-1: a whole number from 1 on"),
        (["emotions.names=[anger,sadnes]"], "did you mean sadness?"),
        (["intervention.alpha=nan"], "intervention.alpha=nan: nan is no finite number"),
        (
            ["model=owner/name"],
            "model=owner/name: no option of that name; a repository of the hub is model=hub model.id=",
        ),
        (
            ["dataset=/tmp/my.jsonl"],
            "no option of that name; a file of your own is dataset=jsonl dataset.path=/tmp/my.jsonl",
        ),
        (["emotions=joy"], "single emotions are emotions.names=[joy,...]"),
        (["emotions=[anger,fear]"], "single emotions are emotions.names=[anger,fear]"),
        (["tracker.mode=online"], "tracker.mode=online: not read by tracker=none, only by tracker=wandb"),
        (
            ["-m", "intervention=steer,random", "intervention.k=2"],
            "not read by intervention=steer, intervention=random",
        ),
        (["intervention.alpha=1e38"], "type numbers from -10000 to 10000"),
        (["model=hub"], "model=hub needs model.id=OWNER/NAME"),
        (["dataset=jsonl"], "dataset=jsonl needs dataset.path=FILE.jsonl"),
        (["model=null"], "GROUP=OPTION"),
        (["~control"], "type control= one of matched, none"),
        (["model=gpt2,hub"], "add -m"),
        (["nonsense"], "type KEY=VALUE"),
        (["seed=${nowhere}"], "there is no key nowhere"),
        (["--nonsense"], "see --help"),
        (["seed=1", "-m", "seed=2"], "flags such as -m go before"),
        (["--resolve"], "--cfg"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_one_line_code_2_and_nothing_written(tmp_path: Path, overrides: list[str], said: str) -> None:
    done = run(tmp_path, *overrides, f"paths.outputs={tmp_path / 'outputs'}")
    assert done.returncode == 2, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_secret_is_not_repeated(tmp_path: Path) -> None:
    for override in (
        "evaluator.api_key=sk-123",
        "evaluator.api_key=sk-123{",
        "evaluator.api_key=sk-123,sk-4",
    ):
        done = run(tmp_path, override)
        assert done.returncode == 2
        assert "sk-123" not in done.stderr


def test_who_asks_for_tracebacks_gets_them(tmp_path: Path) -> None:
    done = run(tmp_path, "model=nonsense", HYDRA_FULL_ERROR="1")
    assert done.returncode == 2
    assert "Traceback" in done.stderr


def test_cfg_prints_and_starts_nothing(tmp_path: Path) -> None:
    shown = run(tmp_path, "--cfg", "job", "--resolve")
    assert f"outputs: {REPOSITORY / 'outputs'}" in shown.stdout
    assert shown.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_who_reads_only_the_head_of_the_help_reads_no_error() -> None:
    line = [sys.executable, str(REPOSITORY / "run.py"), "--help"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
        assert done.stdout is not None and done.stderr is not None
        done.stdout.close()
        assert done.stderr.read() == b"" and done.wait() == 0


def test_exit_codes_of_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    def wrong() -> int:
        raise UserError("this is not\nallowed")

    def broken() -> int:
        raise ValueError("ours")

    def stopped() -> int:
        raise KeyboardInterrupt

    assert cli.guard(lambda: 0) == 0
    assert cli.guard(wrong) == 2
    assert capsys.readouterr().err == "error: this is not allowed\n"
    assert cli.guard(broken) == 1
    assert "Traceback" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        cli.guard(stopped)
    assert stop.value.code == 130
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("codes", "code"),
    [([], 0), ([0], 0), ([2], 2), ([2, 2], 2), ([1], 1), ([0, 1], 1), ([0, 2], 1), ([1, 2], 1)],
)
def test_several_jobs_have_one_code(codes: list[int], code: int) -> None:
    assert cli.combine(codes) == code


def test_a_symbolic_link_finds_everything(tmp_path: Path) -> None:
    """Beside the link there is neither conf nor the package."""
    (tmp_path / "x").symlink_to(REPOSITORY / "run.py")
    line = [sys.executable, "x", "--cfg", "job", "model=tiny_qwen2"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "name: tiny_qwen2" in done.stdout


def test_a_new_setting_of_ones_own_is_typed_with_a_plus() -> None:
    said = "not there yet; what is new is typed with a plus sign: +selector.settings.power=VALUE"
    assert cli.unknown_key("selector.settings.power") == f"selector.settings.power: {said}"
