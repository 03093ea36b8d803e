"""What of a job on classes is published, what is a reconstruction and what is ours; and the published numbers."""

from __future__ import annotations

from collections.abc import Iterable

PUBLISHED = {
    "mask": (
        "Published (Lee et al. 2025; another model, another data set): Llama-3.1-8B disgust 96.11 to 37.22 %; "
        "70B surprise 93.17 to 73.83 %; some emotions improve."
    ),
    "adaptive_mask": (
        "Published (Zheng et al. 2026, change in points; happy, sad, anger, fear, metaphor, sarcasm): zero +5.5 +4.3 "
        "+7.9 +1.2 +3.4 -4.2; mean +6.8 -1.1 +5.8 +5.4 +5.6 -5.8; adaptive -9.3 -8.6 -10.1 -7.9 -7.3 -10.6."
    ),
    "inject": (
        "Published (Zheng et al. 2026): +1 to +5 points; hyperbole helps all six emotions; humour hurts happiness and "
        "surprise."
    ),
}
STANDING = {
    "mask": (
        "Published: LAPE's statistic, its 1 %, masking by zero. Reconstructed: the assignment of a neuron to several "
        "classes. Ours: matched random neurons, the off-target matrix, the log-probability margin, intervals."
    ),
    "adaptive_mask": (
        "Published: the outline of the loop. Reconstructed: filter and feedback numbers (alpha, tau, margin, rounds). "
        "Ours: the same loop on random neurons and on those of another class. A fall in dev accuracy is the loop's "
        "stopping rule and no finding; what counts is what random neurons need for it, and the test texts."
    ),
    "induce": "Published: the idea of directed induction. Reconstructed: beta, the outcome. Ours: controls, replies. "
    "Replies are named as texts are, less the names' means on the data set's texts: compare arms, not levels.",
    "inject": "Published: the idea and its range. Reconstructed: omega. Ours: controls and intervals.",
}


def standing(kinds: Iterable[str]) -> list[str]:
    """Return what is said of kinds of interventions, each once."""
    found = [text for kind in kinds for text in (STANDING.get(kind), PUBLISHED.get(kind)) if text]
    return list(dict.fromkeys(found))
