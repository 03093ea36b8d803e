"""The artifact store: every stage's output under the address of everything that it depends on.

An address is the sha256 of stage name and version, its part of the configuration, and the addresses or
content hashes of its inputs; runtime keys (device, batch size, paths, console) are not part of it. An
artifact is written to a temporary folder and renamed: it is there whole or not at all. Locks (`emo.core.locks`)
only save two processes from doing the same work.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from emo.core import stopping
from emo.core.console import warn
from emo.core.disk import READ_ONLY, writing
from emo.core.errors import UserError
from emo.core.in_use import InUse
from emo.core.locks import held
from emo.core.partial import work
from emo.core.partial_log import Log
from emo.core.sealed import DamagedError, changed, file_digests, read_sealed, seal


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
    """A folder of artifacts: ``<root>/<stage>/<first 16 digits of the address>/``.

    Attributes:
        root: where artifacts are written.
        below: stores that are only read, in this order, where one is not in ``root``.
        used: ``stage/first 16 digits`` of every artifact that was read or written here.
        made_by: model and machine, for rates; no part of an address.
        about: whose artifacts these are (model, dataset, emotions), for a person who opens a folder of the store.
        stages: stage -> what its tensors or rows are; of other stages nothing is said in manifests.
    """

    def __init__(self, root: str | Path | Sequence[str | Path]) -> None:
        given = [root] if isinstance(root, str | Path) else root
        self.root, *self.below = (Path(folder).expanduser() for folder in given)
        self.used = InUse(self.root)
        self.made_by: dict[str, Any] | None = None
        self._nested_s = 0.0  # spent on other artifacts, inside of the one that is being computed
        self.about: dict[str, Any] = {}
        self.stages: Mapping[str, str] = {}

    def folder(self, stage: str, key: str) -> Path:
        """Return where the artifact of ``stage`` with address ``key`` lies or will lie."""
        return self.root / stage / key[:16]

    def find(self, stage: str, key: str) -> Path:
        """Return where an artifact lies, in this store or one below; where it would lie if it is in none."""
        found = (root / stage / key[:16] for root in (self.root, *self.below))
        return next((folder for folder in found if folder.is_dir()), self.folder(stage, key))

    def get(self, stage: str, key: str) -> Artifact | None:
        """Return a finished artifact; a damaged one is dropped with one warning line, as if it were missing."""
        for root in (self.root, *self.below):
            folder = root / stage / key[:16]
            if not (folder / "manifest.json").is_file():
                continue
            try:
                made = read_artifact(folder, key)
            except DamagedError as error:
                warn(f"{folder}: {error}; computed again")
                if root == self.root:
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            self.used.add(f"{stage}/{key[:16]}")
            return made
        return None

    def put(
        self, stage: str, key: str, artifact: Artifact, config: dict[str, Any], wall_s: float, together: int = 1
    ) -> None:
        """Write an artifact whole or not at all; where another process was faster, its own stays.

        ``wall_s`` is of a computation that gave ``together`` artifacts, without that of others which it asked for.
        """
        folder = self.folder(stage, key)
        with writing(folder, f"stage {stage}"):
            self._put(folder, stage, key, artifact, config, wall_s, together)
        self.used.add(f"{stage}/{key[:16]}")

    def _put(
        self, folder: Path, stage: str, key: str, artifact: Artifact, config: dict[str, Any], wall_s: float,
        together: int,
    ) -> None:  # fmt: skip
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder.parent))
        try:
            files = _write(scratch, artifact)
            told = {"what": self.stages[stage], **self.about} if stage in self.stages else {}
            manifest = {
                **told, "holds": _held(artifact), "stage": stage, "address": key, "config": config,
                "meta": artifact.meta, "files": files,
                "versions": versions(), "wall_s": round(wall_s, 3), "peak_mb": peak_mb(),
                "made": {"by": self.made_by, "rows": _count(artifact), "together": together},
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
                start, around, self._nested_s = time.perf_counter(), self._nested_s, 0.0
                logs = {name: Log(self.root / stage, key) for name, (stage, key) in places.items() if name in missing}
                with work(logs):  # what is finished is kept until its artifact is there
                    made = compute(missing)
                    for name, log in logs.items():
                        if made[name].whole:
                            took = time.perf_counter() - start - self._nested_s + log.spent_s
                            with stopping.held():  # a signal must not leave half of it
                                self.put(*places[name], made[name], configs[name], took, len(missing))
                                log.drop()
                        found[name] = made[name]
                self._nested_s = around + time.perf_counter() - start
        return {name: found[name] for name in places}

    @contextmanager
    def _locked(self, stage: str, key: str) -> Iterator[None]:
        """Let no other process compute the same; what is refused leaves no file and no empty folder."""
        folder = self.root / stage
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()  # before hours of work: it could not be kept
        except OSError as error:
            if error.errno not in READ_ONLY and not isinstance(error, NotADirectoryError | FileExistsError):
                raise
            raise UserError(
                f"paths.store={self.root}: stage {stage} is not in it, and it cannot be written ({error.strerror}); "
                f"type paths.store=[FOLDER,{self.root}]: the first is written, the others are only read"
            ) from None
        try:
            with held(folder / f".{key[:16]}.lock", f"stage {stage} ({key[:16]})"):
                yield
        except UserError:
            with contextlib.suppress(OSError):  # not empty
                folder.rmdir()
                self.root.rmdir()
            raise


def _held(artifact: Artifact) -> dict[str, Any]:
    """Return dtype and shape of every tensor (``float32 [6, 30, 2, 576]``), and how many rows of which columns."""
    tensors = {name: f"{x.dtype} {list(x.shape)}".removeprefix("torch.") for name, x in artifact.tensors.items()}
    columns = list(dict.fromkeys(key for row in artifact.rows for key in row))
    return {"tensors": tensors, "rows": {"count": len(artifact.rows), "columns": columns}}


def _count(artifact: Artifact) -> int:
    """Return how many rows an artifact has: its own, those of scores (conditions, n, C), or a tensor's first axis."""
    scores = artifact.tensors.get("scores")
    if scores is not None:
        return int(scores.shape[:-1].numel())
    return len(artifact.rows) or max((x.shape[0] for x in artifact.tensors.values() if x.ndim), default=0)


def _write(folder: Path, artifact: Artifact) -> dict[str, str]:
    if artifact.tensors:
        save_file({k: v.contiguous().cpu() for k, v in artifact.tensors.items()}, folder / "tensors.safetensors")
    if artifact.rows:
        lines = (json.dumps(row, ensure_ascii=False, allow_nan=False) for row in artifact.rows)
        (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file_digests(folder)


def read_artifact(folder: Path, key: str) -> Artifact:
    """Return what lies in the folder of an artifact; ``key``: its address, or the first digits.

    Raises:
        DamagedError: it is not what was written.
    """
    try:
        manifest = read_sealed(folder / "manifest.json")
        if not manifest["address"].startswith(key):
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
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise DamagedError(f"cannot be read ({type(error).__name__})") from None
