"""A sweep under fire: killed at random moments, and bits flipped in what it left; what is lost, doubled or used?

    python -m bench.trials kills 15     SIGKILL of a head and all its processes, at random moments, until it ends
    python -m bench.trials flips 200    one changed bit in a random file of results and store, read back each time

Every trial ends with the table of an undisturbed run, or it fails.
"""

# ruff: noqa: T201 - what this prints is its result

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd

import emo
from emo.config.check import REPOSITORY
from emo.core import console
from emo.core.sealed import DamagedError, file_digest, read_sealed
from emo.core.store import Store
from emo.results.table import read_any, read_result

WORDS = (
    *("model=tiny_llama", "intervention=steer", "evaluator=margin", "dataset.limit=3", "intervention.layers=1-2"),
    *("control.seeds=2", "elicitation.judge=none", "evaluator.bootstrap=50", "intervention.alpha=0.5,1,1.5,2,2.5,3"),
)
TOLERANCE = 1e-4  # of a value: rows that are kept make other batches
EVERY = 25  # flips after which the whole line is typed again


def line(folder: Path, *more: str) -> list[str]:
    """Return the line of the sweep under trial."""
    return [sys.executable, str(REPOSITORY / "run.py"), "-m", *WORDS, f"paths.outputs={folder}", *more]


def table(folder: Path) -> pd.DataFrame:
    """Return the table of the sweep, in one order."""
    return emo.load_results(folder / "run").sort_values(["job", "arm", "metric"]).reset_index(drop=True)


def agree(found: pd.DataFrame, wanted: pd.DataFrame) -> float:
    """Return the largest difference of two tables of the same rows; raises where rows differ."""
    keys = ["job", "arm", "metric", "n"]
    if not found[keys].equals(wanted[keys]):
        raise AssertionError("other rows than those of an undisturbed run")
    return float((found["value"] - wanted["value"]).abs().max())


def done(folder: Path) -> dict[str, str]:
    """Return the digest of every finished result, by job."""
    return {
        path.parent.name: file_digest(path)
        for path in folder.glob("run/*/result.json")
        if (read_any(path.parent) or {}).get("status") == "done"
    }


def kills(count: int, folder: Path) -> None:
    """Kill the line ``count`` times, by turns as one process and as two; then let it end."""
    draw, lost, doubled, killed = random.Random(0), 0, 0, 0
    subprocess.run(line(folder / "whole"), check=True, stdout=subprocess.DEVNULL)
    hit, before = folder / "hit", dict[str, str]()
    while killed < count:
        more = ("cluster=joblib",) if killed % 2 else ()
        head = subprocess.Popen(line(hit, *more), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        try:
            head.wait(draw.uniform(1, 45))  # from the first import to the last job
        except subprocess.TimeoutExpired:
            head.send_signal(signal.SIGKILL)
            head.wait()
            killed += 1
        else:  # it ended before its turn: begin anew, and go on killing
            agree(table(hit), table(folder / "whole"))
            shutil.rmtree(hit)
            before = {}
            continue
        time.sleep(2)  # its workers end with it
        now = done(hit)
        lost += len(before.keys() - now.keys())
        doubled += sum(now.get(name) != digest for name, digest in before.items() if name in now)
        before = now
        print(f"kill {killed}: {len(now)} of 6 jobs done")
    subprocess.run(line(hit), check=True, stdout=subprocess.DEVNULL)
    now = done(hit)
    lost += len(before.keys() - now.keys())
    doubled += sum(now[name] != digest for name, digest in before.items() if name in now)
    apart = agree(table(hit), table(folder / "whole"))
    if apart > TOLERANCE or lost or doubled:
        raise AssertionError(f"{lost} lost, {doubled} doubled, table apart by {apart:g}")
    print(f"{killed} kills: {lost} lost, {doubled} done twice; table as undisturbed to {apart:.2g}")
    left = [path.name for path in hit.rglob(".writing-*")] + [path.name for path in hit.rglob(".partial-*")]
    print(f"left behind: {len(left)} scratch folders, which task=gc frees")


def flips(count: int, folder: Path) -> None:
    """Flip a bit of a random file ``count`` times; nothing that is read back may be other than it was."""
    draw, seen, harmless = random.Random(1), 0, 0
    whole = folder / "whole"
    subprocess.run(line(whole), check=True, stdout=subprocess.DEVNULL)
    wanted = table(whole)
    console.setup("quiet")
    files = sorted(path for path in whole.rglob("*") if path.is_file() and path.stat().st_size)
    for i in range(count):
        path = draw.choice(files)
        kept = path.read_bytes()
        content = bytearray(kept)
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(content))
        what = noticed(whole, path)
        seen, harmless = seen + (what == "noticed"), harmless + (what == "not read back")
        if agree(table(whole), wanted[wanted["job"].isin(set(table(whole)["job"]))].reset_index(drop=True)) > 0:
            raise AssertionError(f"{path}: a changed table was used")
        if i % EVERY == EVERY - 1:
            done_again = subprocess.run(line(whole, "console=quiet"), check=False, capture_output=True, text=True)
            if done_again.returncode or agree(table(whole), wanted) > TOLERANCE:
                raise AssertionError(f"{path}: {done_again.stderr}")
            wanted = table(whole)  # what was made again may differ in the last digits
            print(f"flip {i + 1}: {path.relative_to(whole)}: the line again mends it")
            files = sorted(path for path in whole.rglob("*") if path.is_file() and path.stat().st_size)
        else:
            path.write_bytes(kept)
    print(f"{count} flips: {seen} noticed, {harmless} in files that are never read back, 0 used")


def noticed(root: Path, path: Path) -> str:
    """Return how a flipped file is met; raises where it is used as if nothing were."""
    parts = path.relative_to(root).parts
    if path.name.endswith(".lock") or ".launch" in parts or ".in-use" in parts:
        return "not read back"
    if parts[0] == "store":
        manifest = root.joinpath(*parts[:3]) / "manifest.json"
        try:
            address = str(read_sealed(manifest)["address"])
        except DamagedError:
            return "noticed"
        aside = Path(tempfile.mkdtemp())
        try:
            shutil.copytree(manifest.parent, aside / parts[1] / parts[2])
            if Store(aside).get(parts[1], address) is not None:
                raise AssertionError(f"{path}: used")
        finally:
            shutil.rmtree(aside)
        return "noticed"
    folder = root.joinpath(*parts[:2])
    if folder.is_dir() and (folder / "result.json").is_file():
        if read_result(folder, whole=True) is not None:
            raise AssertionError(f"{path}: used")
        return "noticed"
    return "noticed"  # of the table: `flips` compares it


def main() -> None:
    """Run the trial that is named."""
    what, count = sys.argv[1], int(sys.argv[2])
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = Path(tempfile.mkdtemp(prefix="trials-"))
    try:
        {"kills": kills, "flips": flips}[what](count, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
