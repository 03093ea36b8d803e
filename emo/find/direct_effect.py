"""The direct effect of neurons on the direction of a class (methods 1.5), on labelled texts.

v[c,l]      = mean state of class c's texts - mean over classes, unit length; resid_post, last prompt token
score[c,l,u] = mean over c's texts of the neuron's contribution along v[c,l]
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from emo.core.partial import Running
from emo.core.types import Site
from emo.find.contributions import neuron_contributions
from emo.model.capture import activations
from emo.model.lm import LM
from emo.model.on_device import for_sums, on_device
from emo.model.prefixes import Text


def direct_effects(
    lm: LM, texts: Sequence[Sequence[int]], labels: Sequence[int], classes: int, batch_size: int
) -> Tensor:
    """Return scores (C, L, F) of every neuron for every class.

    A contribution is linear in the activation up to the post-norm of some families, so states are read once and the
    activations of all texts of a class are averaged after it.

    Args:
        lm: the model.
        texts: token ids of the prompts.
        labels: class of each, 0..C-1.
        classes: C.
        batch_size: prompts in one forward pass.
    """
    read = [Text(list(ids)) for ids in texts]
    home = for_sums(lm.device)
    states = torch.zeros(classes, lm.n_layers, lm.d, dtype=torch.float64, device=home)
    counts = torch.bincount(torch.tensor(labels), minlength=classes).clamp(min=1)
    own = torch.tensor(labels)
    label, n = "directions of classes", len(read)
    running = Running(label, label, "prompts", n, lambda: {"states": states})
    running.restore({"states": states})
    for batch in activations(lm, read, batch_size, label, [Site.RESID_POST], only=running.left(), there=True):
        with running.adding(batch.texts):
            of = on_device(own[batch.texts].numpy(), home)
            states.index_add_(0, of, batch.at[Site.RESID_POST].to(home).double())
    mean = states.cpu() / counts[:, None, None]
    v = mean - mean.mean(0)
    v = (v / v.norm(dim=-1, keepdim=True).clamp(min=1e-30)).float()
    v = v.to(lm.device)
    scores = torch.zeros(classes, lm.n_layers, lm.f, dtype=torch.float64, device=home)
    label = "direct effects"
    running = Running(label, label, "prompts", n, lambda: {"scores": scores})
    running.restore({"scores": scores})
    for batch in activations(lm, read, batch_size, label, [Site.NEURON], only=running.left(), there=True):
        of = on_device(own[batch.texts].numpy(), lm.device)
        with running.adding(batch.texts):
            for layer in range(lm.n_layers):
                found = neuron_contributions(lm, layer, batch.at[Site.NEURON][:, layer], v[of, layer])
                scores[:, layer].index_add_(0, of.to(home), found.to(home).double())
    return scores.cpu() / counts[:, None, None]
