"""What Weights & Biases is given, read back from its own files; offline."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image
from support.jobs import config
from support.result_tables import AXES, configs, row, sweep, table
from support.tracked import seen

from emo.config.check import REPOSITORY
from emo.config.schema import TrackerConfig
from emo.core.errors import UserError
from emo.core.sealed import read_sealed, seal
from emo.report import tracking, tracking_access
from emo.report.panels import HEADLINE, MOST

SECRETS = {name: f"s3cret-{name}" * 4 for name in ("WANDB_API_KEY", "OPENAI_API_KEY", "HF_TOKEN")}
TRACKER = TrackerConfig(name="wandb", project="tests", tags=["one", "two"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give W&B a home of its own, secrets to leak, and one process for all tests, which is slow to start."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        folder = tmp_path_factory.mktemp("home")
        patch.setenv("HOME", str(folder))
        patch.delenv("NETRC", raising=False)
        patch.setenv("WANDB_ERROR_REPORTING", "false")
        for name, value in SECRETS.items():
            patch.setenv(name, value)
        yield folder
        wandb.teardown()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "sweep"


@pytest.fixture(autouse=True)
def _home(home: Path) -> None:
    """Let no test touch the user's own."""


def job(root: Path, name: str, model: str = "tiny_llama", alpha: float = 0.5, status: str = "done") -> Path:
    """Write the result folder of a small job: 2 arms, 400 replies each, one figure."""
    folder = root / name
    folder.mkdir(parents=True)
    made = asdict(config(root, f"model={model}", f"intervention.alpha={alpha}", "tracker=wandb"))
    x = {"value": alpha, "ci": [0.25, 0.75], "n": 12}
    arms = {
        "none": {"ppl_ratio": {"value": 1.0, "ci": None, "n": 12}, "kl": {"value": None, "ci": None, "n": 0}},
        "steer": {"logprob_margin": x, "logprob_margin/anger": x, "refusal": x},
    }
    result = {"status": status, "address": name * 4, "config": made, "arms": arms, "files": {}}
    (folder / "result.json").write_text(json.dumps(seal(result)))
    rows = [
        {"arm": arm, "emotion": ("anger", None)[i % 2], "reply": f"{i}\n[b]", "nll": i / 7, "degenerate": False}
        for arm in ("none", "steer")
        for i in range(400)
    ]
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Image.new("RGB", (4, 3)).save(folder / "arms.png")
    return folder


def test_only_these_files_import_wandb_and_only_when_used() -> None:
    """An import costs a second, and not everyone has it."""
    for path in [REPOSITORY / "run.py", *sorted((REPOSITORY / "emo").rglob("*.py"))]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom) and "wandb" in ast.unparse(n)]
        assert not found or path.name.startswith("tracking"), path
        assert not set(found) & set(tree.body), path


def test_a_finished_job_is_one_run(root: Path, tmp_path: Path) -> None:
    folder, directions = job(root, "0123456789abcdef"), tmp_path / "v.safetensors"
    directions.write_bytes(b"tensor")
    (folder / "circuit").mkdir()
    for name in ("a.json", "b.safetensors"):
        (folder / "circuit" / name).write_bytes(name.encode())
    assert tracking.log_point(folder, TRACKER, "my-sweep", root, directions) == 1
    [point] = seen(root)
    assert {k: point.run[k] for k in ("display_name", "job_type", "run_group", "project", "tags")} == {
        "display_name": "tiny_llama steer alpha=0.5 layers=1-2",
        "job_type": "point",
        "run_group": "my-sweep",
        "project": "tests",
        "tags": ["one", "two"],
    }
    assert point.config["model"]["name"] == "tiny_llama"
    assert point.config["model"]["family"] == "llama"  # its id, where the result does not say
    assert (point.config["intervention"]["alpha"], point.config["job"]) == (0.5, folder.name)
    scalars = {k: v for k, v in point.summary.items() if k.startswith(("none/", "steer/"))}
    assert scalars == {
        "none/ppl_ratio": 1.0,
        "steer/logprob_margin": 0.5,
        "steer/logprob_margin/lo": 0.25,
        "steer/logprob_margin/hi": 0.75,
    }
    first = {key: value for row in point.history for key, value in row.items() if key.startswith(HEADLINE)}
    assert first == {f"{HEADLINE}/1_logprob_margin": 0.5}  # alone: there is no curve that would have it
    samples = point.table("tables/samples")
    assert samples["columns"] == ["arm", "emotion", "reply", "nll", "degenerate"]
    assert len(samples["data"]) == 300
    counts = [sum(r[:2] == [arm, e] for r in samples["data"]) for arm in ("none", "steer") for e in ("anger", None)]
    assert min(counts) > 50
    assert (point.summary["figures/arms.width"], point.summary["figures/arms.height"]) == (4, 3)
    assert (folder / "arms.png").is_file()
    files = {a["name"]: {c["path"]: c["local_path"] for c in a["manifest"]["contents"]} for a in point.all("artifact")
             if a["type"] in ("directions", "samples", "circuit")}  # fmt: skip
    assert files == {  # where they lie: nothing is copied
        "directions-tiny_llama": {directions.name: str(directions)},
        "samples-tiny_llama": {"samples.jsonl": str(folder / "samples.jsonl")},
        "circuit-tiny_llama": {name: str(folder / "circuit" / name) for name in ("a.json", "b.safetensors")},
    }
    assert read_sealed(folder / "wandb.json") == {"my-sweep": point.folder.name}


def test_jobs_of_one_process_are_runs_of_their_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with a run id in the environment, and another run left open."""
    wandb.teardown()  # else the environment is not read again
    monkeypatch.setenv("WANDB_RUN_ID", "shared")
    first, second = job(root, "a" * 16), job(root, "b" * 16, "tiny_qwen2", 2.0)
    open_run = wandb.init(dir=root.parent, mode="offline", settings=wandb.Settings(silent=True), id="other")
    for folder in (first, second):
        settings = {"model": "x", "intervention": "steer", "intervention.alpha": 0.5, "circuit.layers": "1-2"}
        assert tracking.log_point(folder, TRACKER, "g", root, settings=settings, charts=False) == 1
    open_run.finish()
    wandb.teardown()
    one, other = seen(root)
    assert [s.config["model"]["family"] for s in (one, other)] == ["llama", "qwen2"]
    assert [s.summary["steer/logprob_margin"] for s in (one, other)] == [0.5, 2.0]
    assert one.run["display_name"] == "tiny_llama steer alpha=0.5 layers=1-2"
    assert not [key for row in one.history for key in row if key.startswith(HEADLINE)]
    assert len({s.run["run_id"] for s in (one, other)} - {"shared", "other"}) == 2


def test_a_job_is_logged_once_per_group(root: Path) -> None:
    folder = job(root, "a" * 16)
    own = TrackerConfig(name="wandb", group="mine")
    assert [tracking.log_point(folder, TRACKER, group, root) for group in ("g", "g", "h")] == [1, 0, 1]
    assert [tracking.log_point(folder, own, group, root) for group in ("g", "h")] == [1, 0]
    assert sorted(s.run["run_group"] for s in seen(root)) == ["g", "h", "mine"]
    assert tracking.log_point(job(root, "b" * 16, status="failed"), TRACKER, "g", root) == 0
    assert len(seen(root)) == 3


def test_nothing_is_logged_without_a_tracker(root: Path) -> None:
    frame, none = sweep(), TrackerConfig()
    tracking_access.check(none)
    assert tracking.log_point(job(root, "a" * 16), none, "g", root) == 0
    assert tracking.log_curves(frame, AXES, configs(frame), none, "g", root) == 0
    assert tracking.log_compare(frame, AXES, configs(frame), none, "g", root) == 0
    assert not (root / "wandb").exists()
    assert not (root / "a" / "wandb.json").exists()


def test_files_stay_in_the_sweep_and_hold_no_secret(root: Path, home: Path, capfd: Any) -> None:
    """Copies belong beside the runs, not in the user's home; and nothing is printed."""
    frame = sweep()
    csv = root / "results.csv"
    tracking.log_point(job(root, "a" * 16), TRACKER, "g", root)
    csv.write_text("job,value\n")
    tracking.log_curves(frame, AXES, configs(frame), TRACKER, "g", root)
    tracking.log_compare(frame, AXES, configs(frame), TRACKER, "g", root, [csv])
    wandb.teardown()
    outside = [path for path in home.rglob("*") if path.is_file()]
    assert {path.relative_to(home).parts[:3] for path in outside} <= {(".cache", "wandb", "logs")}
    for path in [*outside, *(path for path in root.rglob("*") if path.is_file())]:
        content = path.read_bytes()
        assert not [name for name, value in SECRETS.items() if value.encode() in content], path
    assert capfd.readouterr() == ("", "")
    assert "WANDB_DATA_DIR" not in os.environ


def test_curves_of_two_models(root: Path) -> None:
    """Histories with the swept number as step, so that the lines overlay when grouped by family."""
    frame = sweep()
    assert tracking.log_curves(frame, AXES, configs(frame), TRACKER, "g", root) == 2
    llama, qwen = seen(root)
    for curve in (llama, qwen):
        assert (curve.run["job_type"], curve.run["run_group"]) == ("curve", "g")
        metrics = {m["name"]: m for m in curve.all("metric")}
        assert metrics["alpha"]["options"]["hidden"] is True
        shown = sorted(name for name, m in metrics.items() if not m.get("options", {}).get("hidden"))
        assert shown == [  # the first ones a person sees; no chart of an interval's ends
            f"{HEADLINE}/1_logprob_margin_over_alpha", f"{HEADLINE}/8_logprob_margin_of_none_over_alpha",
            "arm01_none/logprob_margin_over_alpha", "arm03_steer/logprob_margin_over_alpha",
        ]  # fmt: skip
        assert {metrics[name]["step_metric"] for name in {*metrics} - {"alpha"}} == {"alpha"}
        assert curve.config["axis"] == "intervention.alpha"
    assert [c.config["model"]["family"] for c in (llama, qwen)] == ["llama", "qwen"]
    assert llama.run["display_name"] == "llama_1b steer over alpha layers=1-2"
    for key in (f"{HEADLINE}/1_logprob_margin_over_alpha", "arm03_steer/logprob_margin_over_alpha"):
        rows = [(h["alpha"], h[key], h[f"{key}_lo"]) for h in llama.history]
        assert rows == [(0.5, 0.5, 0.4), (1, 1, 0.9), (2, 2, 1.9)]
        assert [(h["alpha"], h[key]) for h in qwen.history] == [(0.5, 1.5), (1, 3)]
    assert [h["arm01_none/logprob_margin_over_alpha"] for h in qwen.history] == [0.2, 0.2]


def test_at_most_eight_charts_come_first_however_much_is_swept() -> None:
    """And those of every model and control have the same names, so that lines lie in one chart."""
    metrics = ("clean_accuracy", "logprob_margin", "delta_s_rel", "accuracy", "ppl_ratio", "degenerate", "kl")
    rows = []
    for model, control in (("llama", "random"), ("qwen", "random_steer")):
        for alpha in (1.0, 2.0):
            for decay in (0.5, 1.0):
                for arm in ("none", "prompt", "shuffled", control, "steer"):
                    more = {"intervention.decay": decay}
                    job = f"{model}{alpha}{decay}"
                    rows += [row(job, model, alpha, arm, 1.0, metric=metric, **more) for metric in metrics]
    frame = table(*rows)
    axes = ("model", "intervention.alpha", "intervention.decay")
    for swept, most in ((axes[:2], MOST), (axes, MOST)):
        runs = tracking.curve_runs(frame, swept, configs(frame)).values()
        every = [{key for row in run.history for key in row if key != run.step} for run in runs]
        first = {key for keys in every for key in keys if key.startswith(HEADLINE) and not key.endswith(("_lo", "_hi"))}
        assert len(first) == most
        assert sorted({key.partition("/")[0] for keys in every for key in keys})[0] == HEADLINE
    assert f"{HEADLINE}/6_clean_accuracy_of_control_over_decay" in first


def test_changed_curves_replace_those_that_were_not_uploaded(root: Path) -> None:
    frame = sweep()
    made = configs(frame)
    for count in (2, 0):
        assert tracking.log_curves(frame, AXES, made, TRACKER, "g", root) == count
    kept, gone = (s.folder for s in seen(root))
    more = table(*frame.to_dict("records"), row("d", "qwen_1b", 2.0, "steer@alpha=2.0", 6.0))
    assert tracking.log_curves(more, AXES, made, TRACKER, "g", root) == 1
    llama, qwen = seen(root)
    assert (llama.folder, qwen.folder == gone, gone.exists(), len(qwen.history)) == (kept, False, False, 3)
    for s in (llama, qwen):
        (s.folder / f"run-{s.run['run_id']}.wandb.synced").touch()
    fewer = more[more["model"] == "qwen_1b"]
    assert tracking.log_curves(fewer, AXES, made, TRACKER, "g", root) == 0
    assert llama.folder.exists()  # it stands in the project: taking its files away would not undo that
    assert tracking.log_curves(more, AXES, made, TRACKER, "other", root) == 2


def test_a_sweep_is_one_table_with_its_files(root: Path) -> None:
    frame, root = sweep(), root / "my sweep"
    figure, csv = job(root, "a" * 16) / "arms.png", root / "results.csv"
    csv.write_text("job,value\na,1\n")
    effects, compared = root / "main_effects.csv", root / "comparisons.csv"
    effects.write_text("axis,value,effect,ci_lo\nmodel,llama,0.5,\n")
    compared.write_text("axis,emotion,valence,difference\nmodel,,,0.25\nmodel,anger,,0.5\nmodel,,positive,0.5\n")
    arguments = (frame, AXES, configs(frame), TRACKER, "g", root, [csv, effects, compared, figure])
    assert [tracking.log_compare(*arguments) for _ in range(2)] == [1, 0]
    [compare] = seen(root)
    assert (compare.run["job_type"], compare.run["display_name"]) == ("compare", "compare my sweep")
    assert compare.config["families"] == ["llama", "qwen"]
    points = compare.table("tables/points")
    metric = [f"logprob_margin{suffix}" for suffix in ("", " lo", " hi")]
    assert points["columns"] == ["job", "model", "intervention.alpha", "intervention.layers", "arm", *metric]
    assert ["d", "qwen_1b", "[0.5, 1.0]", "1-2", "none", 0.2, 0.2 - 0.1, 0.2 + 0.1] in points["data"]
    assert len(points["data"]) == 3 * 2 + 3
    [artifact] = [a for a in compare.all("artifact") if a["type"] == "results"]
    assert artifact["name"] == "results-my-sweep"
    contents = {c["path"]: Path(c["local_path"]) for c in artifact["manifest"]["contents"]}
    assert set(contents) == {"results.csv", "main_effects.csv", "comparisons.csv", "arms.png"}
    told = compare.table("tables/main_effects")
    assert told["data"] == [["model", "llama", 0.5, None]]
    assert compare.table("tables/comparisons")["data"] == [["model", None, None, 0.25]]  # of all prompts
    csv.write_text("job,value\na,2\n")
    assert contents["results.csv"].read_text() == "job,value\na,1\n"  # as it was, for a later `wandb sync`
    assert tracking.log_compare(*arguments) == 1
    assert not compare.folder.exists()
    assert len(seen(root)) == 1


def test_curves_and_compare_share_one_marker(root: Path) -> None:
    frame = sweep()
    made = configs(frame)
    written = [
        call(frame, AXES, made, TRACKER, "g", root)
        for call in (tracking.log_curves, tracking.log_compare, tracking.log_curves, tracking.log_compare)
    ]
    assert written == [2, 1, 0, 0]
    assert len(read_sealed(root / "wandb.json")["g"]) == 3


@pytest.mark.parametrize("fault", ["init", "log", "killed", "file"])
def test_a_fault_of_wandb_is_one_warning(fault: str, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """The job is not marked as logged, nothing half-written stays, and the next call works."""
    folder = job(root, "a" * 16)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def kill() -> None:
        for pid in subprocess.run(["pgrep", "-P", str(os.getpid()), "wandb-core"], capture_output=True).stdout.split():
            os.kill(int(pid), signal.SIGKILL)

    with monkeypatch.context() as patch:
        if fault == "init":
            patch.setattr(wandb, "init", full)
        elif fault == "log":
            patch.setattr(wandb, "Table", full)
        elif fault == "killed":
            fill = tracking._fill
            patch.setattr(tracking, "_fill", lambda *args: (kill(), fill(*args)))
        else:
            (root / "wandb").write_text("in the way")
        assert tracking.log_point(folder, TRACKER, "g", root) == 0
    warned = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: wandb: point run")]
    assert len(warned) == 1 and "the local results are complete" in warned[0]
    assert not (folder / "wandb.json").exists()
    if fault == "file":
        (root / "wandb").unlink()
    assert tracking.log_point(folder, TRACKER, "g", root) == 1
    assert len(seen(root)) == 1


def test_a_missing_package_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for found in (None, ModuleSpec("wandb", None)):  # the second: a folder of runs named wandb, in reach of imports
        monkeypatch.setattr(importlib.util, "find_spec", lambda _, found=found: found)
        with pytest.raises(UserError, match=r"pip install -c constraints\.txt wandb, or tracker=none"):
            tracking_access.check(TRACKER)
    tracking_access.check(TrackerConfig())


def test_online_needs_a_key(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Looked for where W&B looks: the environment and netrc; then the server must answer."""
    online = TrackerConfig(name="wandb", mode="online")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody there
    wandb.teardown()  # else the environment is not read again
    with pytest.raises(
        UserError, match=r"http://127\.0\.0\.1:9 does not answer \(no connection\); type tracker\.mode=off"
    ):
        tracking_access.check(online)
    monkeypatch.setattr(tracking_access, "_unreachable", lambda _: "")
    tracking_access.check(online)
    monkeypatch.delenv("WANDB_API_KEY")
    wandb.teardown()  # else the environment is not read again
    tracking_access.check(TRACKER)
    with pytest.raises(UserError, match=r"export WANDB_API_KEY=\.\.\. or wandb login, or tracker\.mode=offline"):
        tracking_access.check(online)
    netrc = home / ".netrc"
    netrc.write_text(f"machine 127.0.0.1:9\n login user\n password {'k' * 40}\n")
    tracking_access.check(online)
    netrc.unlink()
    wandb.teardown()
