"""The artifact store: every stage's output under the address of everything that it depends on.

An address is the sha256 of stage name and version, its part of the configuration, and the addresses or
content hashes of its inputs; runtime keys (device, batch size, paths, console) are not part of it. An
artifact is written to a temporary folder and renamed: it is there whole or not at all. A lock of the
operating system, freed when its process dies, only saves two processes from doing the same work.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from emo.console import warn
from emo.errors import UserError
from emo.partial import work
from emo.partial_log import Log
from emo.sealed import DamagedError, changed, file_digests, read_sealed, seal
from emo.stopping import held


class Artifact(NamedTuple):
    """Tensors, rows and a small dictionary: what a stage gives."""

    tensors: dict[str, Tensor] = {}
    rows: list[dict[str, Any]] = []
    meta: dict[str, Any] = {}
    whole: bool = True  # False: part of it could not be had: used now, not kept, so that the next call tries again


def address(stage: str, stage_version: int, **inputs: object) -> str:
    """Return the sha256 (64 hex digits) of a stage and its inputs (JSON values)."""
    text = json.dumps([stage, stage_version, inputs], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """Return the versions that a number may depend on."""
    return {name: version(name) for name in ("torch", "transformers", "tokenizers", "numpy", "scikit-learn")}


def peak_mb() -> int:
    """Return the most memory that this process held so far, in MiB: of its GPUs together where it used one.

    On GPUs it is what torch had allocated at most (not what it reserved), summed over them; without one it is the
    largest resident memory of the process (Linux counts in KiB). Never both: a GPU's memory is what a model must fit.
    """
    if torch.cuda.is_initialized():
        held = sum(torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count()))
        if held:
            return -(-held // 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def writable(*folders: Path) -> None:
    """Check that results can be written below ``folders``, which need not exist yet.

    Raises:
        UserError: one lies below a file or below a folder without permission.
    """
    for folder in folders:
        parent = next(p for p in (folder, *folder.parents) if p.exists())
        if not parent.is_dir():
            raise UserError(f"{folder}: {parent} is a file, not a folder; give another paths.outputs or paths.store")
        try:
            tempfile.TemporaryFile(dir=parent).close()  # permission bits do not tell of read-only file systems
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UserError(f"{folder}: cannot be written ({why}); give another paths.outputs or paths.store") from None


class Store:
    """A folder of artifacts: ``<root>/<stage>/<first 16 digits of the address>/``."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()

    def folder(self, stage: str, key: str) -> Path:
        """Return where the artifact of ``stage`` with address ``key`` lies or will lie."""
        return self.root / stage / key[:16]

    def get(self, stage: str, key: str) -> Artifact | None:
        """Return a finished artifact; a damaged one is dropped with one warning line, as if it were missing."""
        folder = self.folder(stage, key)
        if not (folder / "manifest.json").is_file():
            return None
        try:
            return _read(folder, key)
        except DamagedError as error:
            warn(f"{folder}: {error}; computed again")
            shutil.rmtree(folder, ignore_errors=True)
            return None

    def put(self, stage: str, key: str, artifact: Artifact, config: dict[str, Any], wall_s: float) -> None:
        """Write an artifact whole or not at all; where another process was faster, its own stays."""
        folder = self.folder(stage, key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
        try:
            files = _write(scratch, artifact)
            manifest = {
                "stage": stage, "address": key, "config": config, "meta": artifact.meta, "files": files,
                "versions": versions(), "wall_s": round(wall_s, 3), "peak_mb": peak_mb(),
            }  # fmt: skip
            (scratch / "manifest.json").write_text(
                json.dumps(seal(manifest), indent=1, ensure_ascii=False, allow_nan=False)
            )
            if not (folder / "manifest.json").is_file():
                shutil.rmtree(folder, ignore_errors=True)  # left over without a manifest: of no use
                scratch.chmod(0o755)  # a temporary folder is private; a store may be shared
                scratch.rename(folder)
        except OSError as error:
            if not (folder / "manifest.json").is_file():
                why = f"could not be written ({error.strerror or error})"
                raise OSError(error.errno, why, str(folder)) from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def get_or_compute(self, stage: str, key: str, config: dict[str, Any], compute: Callable[[], Artifact]) -> Artifact:
        """Return the artifact of an address, computing and keeping it where it is missing."""
        return self.get_or_compute_many(stage, {"only": key}, {"only": config}, lambda _: {"only": compute()})["only"]

    def get_or_compute_many(
        self,
        stage: str,
        keys: dict[str, str],
        configs: dict[str, dict[str, Any]],
        compute: Callable[[list[str]], dict[str, Artifact]],
    ) -> dict[str, Artifact]:
        """Return several artifacts, computing all missing ones in one call (they share a batch); whole ones are kept.

        Args:
            stage: name of the stage.
            keys: address per name.
            configs: what the manifest of each records.
            compute: takes the missing names, returns an artifact for each.
        """
        return self._several({name: (stage, key) for name, key in keys.items()}, configs, compute)

    def get_or_compute_stages(
        self,
        keys: dict[str, str],
        configs: dict[str, dict[str, Any]],
        compute: Callable[[list[str]], dict[str, Artifact]],
    ) -> dict[str, Artifact]:
        """Return the artifacts of several stages that one computation gives: as above, the names are the stages."""
        return self._several({stage: (stage, key) for stage, key in keys.items()}, configs, compute)

    def _several(
        self,
        places: dict[str, tuple[str, str]],
        configs: dict[str, dict[str, Any]],
        compute: Callable[[list[str]], dict[str, Artifact]],
    ) -> dict[str, Artifact]:
        found = {name: got for name, place in places.items() if (got := self.get(*place)) is not None}
        if len(found) == len(places):
            return {name: found[name] for name in places}
        with self._locked(*min(place for name, place in places.items() if name not in found)):
            found |= {n: got for n, place in places.items() if n not in found and (got := self.get(*place)) is not None}
            missing = [name for name in places if name not in found]
            if missing:
                start = time.perf_counter()
                logs = {name: Log(self.root / stage, key) for name, (stage, key) in places.items() if name in missing}
                with work(logs):  # what is finished is kept until its artifact is there
                    made = compute(missing)
                    for name, log in logs.items():
                        if made[name].whole:
                            took = time.perf_counter() - start + log.spent_s
                            with held():  # a signal must not leave half of it
                                self.put(*places[name], made[name], configs[name], took)
                                log.drop()
                        found[name] = made[name]
        return {name: found[name] for name in places}

    @contextmanager
    def _locked(self, stage: str, key: str) -> Iterator[None]:
        """Let no other process of this machine compute the same; what is refused leaves no file and no empty folder."""
        folder = self.root / stage
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"paths.store={self.root}: cannot be written ({error.strerror}); give another folder"
            ) from None
        lock = FileLock(folder / f".{key[:16]}.lock")
        try:
            with lock:
                yield
        except UserError:
            Path(lock.lock_file).unlink(missing_ok=True)  # somebody who waits for it only loses time
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
                self.root.rmdir()
            raise


def _write(folder: Path, artifact: Artifact) -> dict[str, str]:
    if artifact.tensors:
        save_file({k: v.contiguous().cpu() for k, v in artifact.tensors.items()}, folder / "tensors.safetensors")
    if artifact.rows:
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in artifact.rows)
        (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file_digests(folder)


def _read(folder: Path, key: str) -> Artifact:
    try:
        manifest = read_sealed(folder / "manifest.json")
        if manifest["address"] != key:
            raise DamagedError("holds another address")
        if wrong := changed(folder, manifest["files"]):
            raise DamagedError(f"{', '.join(wrong)}: damaged")
        tensors = load_file(folder / "tensors.safetensors") if "tensors.safetensors" in manifest["files"] else {}
        rows = []
        if "rows.jsonl" in manifest["files"]:
            rows = [
                json.loads(line)
                for line in (folder / "rows.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n")
            ]
        return Artifact(tensors, rows, manifest["meta"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise DamagedError(f"cannot be read ({type(error).__name__})") from None
