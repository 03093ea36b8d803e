"""The published numbers of the emotion-circuits paper (Wang et al. 2025, arXiv 2510.11328), to stand beside ours.

`emo/data/texts/paper_tables.csv` holds tables 1-8 of the paper. A value is given for exactly the model, method and set
that the paper has, never for a neighbour of it.
"""

from __future__ import annotations

import csv
from functools import cache

from emo.data.texts import TEXTS

TABLES = "paper_tables.csv"
CITATION = "Wang et al. 2025, arXiv 2510.11328"
METHODS = {"prompt": "prompting", "steer": "steering", "circuit": "circuit"}  # our arm -> the paper's method
CURVES = {  # our intervention -> the paper's
    "ablate_neurons": "neuron_ablation", "enhance_neurons": "neuron_enhancement",
    "ablate_heads": "head_ablation", "enhance_heads": "head_enhancement",
}  # fmt: skip
PAPER_EMOTIONS = frozenset({"anger", "sadness", "happiness", "fear", "surprise", "disgust"})


def paper_value(
    model_id: str, method: str, dataset: str, emotion: str | None, valence: str | None, metric: str
) -> float | None:
    """Return the paper's value as a share in 0..1; None where the paper has none for exactly this.

    Args:
        model_id: the model as the hub or a folder names it; its last part is compared, ``Llama-3.2-3B-Instruct``.
        method: an arm (``prompt``, ``steer``, ``circuit``) or the paper's word (``prompting``, ``steering``).
        dataset: set of scenarios that was scored, ``sev`` or ``sev_test``.
        emotion: target emotion; None: the mean over the paper's six.
        valence: valence of the event; None: all three together.
        metric: only ``accuracy`` was published as a share of replies.

    Source: tables 1, 2, 3 and 8; the label of its judge is "matches the target", of style (methods 1.12).
    """
    if metric != "accuracy":
        return None
    model = model_id.rstrip("/").rpartition("/")[2]
    key = (model, METHODS.get(method, method), dataset, emotion or "average", valence or "all")
    return _accuracies().get(key)


def paper_delta_s(model_id: str, kind: str, dataset: str, emotion: str, k: int) -> float | None:
    """Return the paper's delta-s (activation units) at k units per layer; None where it has none for exactly this.

    Args:
        model_id: the model as the hub or a folder names it; its last part is compared.
        kind: intervention, e.g. ``ablate_neurons``.
        dataset: set of scenarios that was scored.
        emotion: target emotion, or ``random`` for random units.
        k: neurons or heads per layer.

    Source: tables 4-7 (k-curves of Qwen2.5-7B).
    """
    return _curves().get((model_id.rstrip("/").rpartition("/")[2], CURVES.get(kind, kind), dataset, emotion, k))


@cache
def _accuracies() -> dict[tuple[str, ...], float]:
    with (TEXTS / TABLES).open(encoding="utf-8", newline="") as file:
        return {
            (row["model"], row["method"], row["set"], row["emotion"], row["valence"]): float(row["value"]) / 100
            for row in csv.DictReader(file)
            if row["metric"] == "accuracy_percent"
        }


@cache
def _curves() -> dict[tuple[str, str, str, str, int], float]:
    with (TEXTS / TABLES).open(encoding="utf-8", newline="") as file:
        return {
            (row["model"], row["method"], row["set"], row["emotion"], int(float(row["k"]))): float(row["value"])
            for row in csv.DictReader(file)
            if row["metric"] == "delta_s"
        }
