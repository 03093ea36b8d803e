"""Find, test and control the machinery of emotion in language models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from emo import circuits as circuits
    from emo.cli.handles import JobHandle
    from emo.measure.classifier import Classifier
    from emo.measure.own_labeller import OwnLabeller
    from emo.model.lm import LM


def __getattr__(name: str) -> Any:
    """Return ``emo.circuits`` where it is first asked for: torch only where it is needed."""
    if name == "circuits":
        return import_module("emo.circuits")
    raise AttributeError(f"module 'emo' has no attribute {name!r}")


def job(line: str | Sequence[str] = "") -> JobHandle:
    """Return a job of the same words as on the command line, for notebooks: `emo.cli.handles.JobHandle`.

    ``emo.job("intervention=circuit model=smollm2_135m")`` has ``directions``, ``ranking(emotion)``, ``importance``,
    ``reference``, ``circuit``, ``replies`` and ``results`` as labelled tables, each computed when it is asked for (or
    read from the store), ``run()``, ``write(texts, emotion)`` and ``export(folder)``.

    Raises:
        UserError: a word that the command line refuses.
    """
    from emo.cli.handles import JobHandle  # Hydra and torch only where they are needed

    return JobHandle(line)


def sweep(line: str | Sequence[str]) -> pd.DataFrame:
    """Run a sweep by its line (``sweeps=alpha model=tiny_llama``) and return its table: `emo.cli.scripting.sweep`."""
    from emo.cli.scripting import sweep as run

    return run(line)


def steer(lm: LM, vector: Tensor, prompts: str | Sequence[str], alpha: float, layers: object, **more: Any) -> list[str]:
    """Return replies of ``lm`` while ``alpha`` times a vector is added at ``layers``: `emo.cli.scripting.steer`."""
    from emo.cli.scripting import steer as write

    return write(lm, vector, prompts, alpha, layers, **more)


def load_results(folder: str | Path) -> pd.DataFrame:
    """Return the finished results below ``folder`` as a table: `emo.results.table.load_results`."""
    from emo.results.table import load_results as load  # pandas only where it is needed

    return load(folder)


def compare(folder: str | Path) -> pd.DataFrame:
    """Return the jobs of a sweep against each other, in pairs: `emo.results.job_comparisons.compare_jobs`.

    One row per two jobs that differ in one swept key, arm, metric and part of the data: the difference of their means
    on the prompts that both have, its 95 % interval over scenarios, p (sign flips) and p after Holm; ``beyond`` names
    the control that was taken off in both.

    Raises:
        UserError: no such folder, or no finished result in it.
    """
    from emo.results.job_comparisons import compare_folder  # pandas only where it is needed

    return compare_folder(folder)


def geometry(folder: str | Path) -> pd.DataFrame:
    """Return how alike the emotions lie in the models of a sweep: `emo.results.model_geometry.compare_models`.

    One row per two models and relative depth: Spearman's correlation of the cosines between emotions, its p when the
    emotions of one are exchanged (Mantel), and the noise ceiling from halves of the data; depth nan is the mean.

    Raises:
        UserError: no such folder, or no two models in it.
    """
    from emo.results.model_geometry import compare_folder  # pandas only where it is needed

    return compare_folder(folder)


def load_evaluator(
    name: str = "classifier", store: str | Path | None = None, settings: Mapping[str, Any] | None = None
) -> Classifier | OwnLabeller:
    """Return an evaluator whose ``label(texts)`` gives one emotion or ``neutral`` per text.

    Args:
        name: ``classifier``, the offline one, or ``MODULE.Class`` of your own (`emo.measure.labeller.Labeller`), which
            labels with Ekman's six emotions, or those of ``label(texts, names)``; a judge or a hub model is asked
            through ``run.py``.
        store: folder that keeps the fitted classifier; default: the store of ``outputs/`` in the repository.
        settings: keywords of your own class.

    Raises:
        UserError: another name, or the sentence encoder is not installed.
    """
    from emo.config.emotions import EKMAN6
    from emo.core import home
    from emo.core.errors import check_choice
    from emo.core.store import Store
    from emo.measure.classifier import load_classifier
    from emo.measure.own_labeller import OwnLabeller

    if "." in name:
        return OwnLabeller(name, settings or {}, key="load_evaluator")
    check_choice("load_evaluator", name, ("classifier", "MODULE.Class"))
    return load_classifier(Store(store or home.folder() / "outputs" / "store"), EKMAN6)


def load_model(
    name: str | Path,
    device: str = "auto",
    dtype: str = "auto",
    *,
    revision: str | None = None,
    adapter: str | Path | None = None,
) -> LM:
    """Return a model as a job on it has it, loaded and verified.

    Args:
        name: an option of ``model=`` (``smollm2_135m``), a folder with a model of your own, or OWNER/NAME on the hub.
        device: auto | cpu | cuda | cuda:0 ... | mps.
        dtype: auto (the checkpoint's own) | float32 | bfloat16 | float16.
        revision: of a hub repository: a branch, tag or commit, e.g. ``step1000``; None: its default branch.
        adapter: LoRA adapter that is merged into the weights: a folder, or OWNER/NAME (needs peft); None: none.

    Raises:
        UserError: there is no such model, or it cannot be loaded; one line that says why.
    """
    from emo.model.named import load_named  # torch only where it is needed

    return load_named(str(name), device, dtype, revision=revision, adapter=adapter)
