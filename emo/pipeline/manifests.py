"""What the manifests of a store say to a person: whose artifact this is, and what its tensors or rows are.

No address depends on a word of it: an artifact without it, of an earlier version, is read as before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from emo.config.kinds import on_classes
from emo.config.schema import Config
from emo.core.store import Store
from emo.model.lm import ModelSpec

SCENARIOS = {  # stage -> its tensors with their axes, or its rows
    "directions": "unit directions v (emotion, block, sublayer: 0 attention, 1 MLP; residual) and norms, their lengths "
    "before (emotion, block, sublayer); rows: of every prompt the emotions whose reply counts",
    "shuffled": "directions of permuted labels v (draw, emotion, block, sublayer, residual), and their cosine with the "
    "true ones",
    "probe_states": "states (group, emotion, block, residual) behind the blocks, of some extraction prompts",
    "attribution": "scores of neurons (emotion, block, neuron) and heads (emotion, block, head), in two halves of the "
    "prompts too; what is added to them, delta_mlp and delta_attn; their sizes",
    "ranking": "rows: single units set to zero, and what that did to the emotion",
    "importance": "importance of sublayers values (push, emotion, block, sublayer: 0 attention, 1 MLP), the unit of a "
    "push sigma, and the states' mean length norm (block, sublayer)",
    "rms": "mean root mean square rms (block) of the unedited state behind a block, at the last token of the neutral "
    "prompts",
    "lens": "rows: the tokens that a direction raises and lowers most, by emotion and block",
    "selection": "rows: the strengths that were tried on dev; meta: what was chosen",
    "states": "of the test split under the emotion prompts: projections proj (prompt and emotion, block, emotion), and "
    "states (group, emotion, block, residual) of some",
    "projections": "projections proj (prompt and emotion, block, emotion) under an arm",
    "modulated": "states of some test prompts plain (prompt, block, residual), and modulated (emotion, prompt, block, "
    "residual) under each emotion's circuit",
    "doses": "rows: how strong the edit of an arm is",
    "replies": "rows: the replies of an arm",
    "labels": "rows: what the evaluator calls every reply of an arm",
    "margins": "rows: log-probability margins of held-out replies under an arm",
    "damage": "rows: perplexity, KL and fluency of every reply of an arm",
}
CLASSES = {
    "statistics": "how active neurons are on the train texts of every class, in four parts of them",
    "direct": "direct effects (class, block, neuron) of neurons on the directions of the classes",
    "predictions": "scores (condition, text, class) of the classes' names under an arm; rows: the conditions",
    "prior": "scores (class) of the classes' names, whatever the text",
    "written": "rows: the replies of an arm, and what the model calls them",
}


def tell(store: Store, config: Config, spec: ModelSpec, names: Sequence[str], data: Mapping[str, Any]) -> None:
    """Let the manifests of a job's store name its model, data and emotions.

    Args:
        store: of the job alone.
        config: of the job.
        spec: its model.
        names: of the emotions, or of other classes, in the order of every tensor's axis.
        data: what is known of the data beside its name: digest, sizes.
    """
    model = {"name": config.model.name, "id": spec.id, "version": spec.weights, "dtype": spec.dtype}
    classes = on_classes(config)
    store.about = {
        "model": model | {"blocks": spec.n_layers},
        "dataset": {"name": config.dataset.name, **data},
        "classes" if classes else "emotions": list(names),
    }
    store.stages = CLASSES if classes else SCENARIOS
