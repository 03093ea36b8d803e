"""One process whose peak memory is measured: ``python -m bench.memory MODEL SAMPLES`` prints MiB as JSON."""

from __future__ import annotations

import json
import sys

from bench.inputs import EMOTIONS, model, samples, unit_vectors
from bench.meters import peak_mib, reset_peak
from emo.config.schema import Config, ElicitationConfig, EmotionsConfig
from emo.core import console
from emo.find.attribution import attribute

BATCH = 16  # small: few samples must fill a forward pass, or its own growth would be measured


def main(name: str, count: int) -> None:
    """Score every neuron and head on ``count`` samples; print resident memory before, and at the peak."""
    console.setup("quiet")
    lm, chosen = model(name), samples(count)
    asked = Config(batch_size=BATCH, emotions=EmotionsConfig(list(EMOTIONS)), elicitation=ElicitationConfig("paper"))
    v = unit_vectors(len(EMOTIONS), lm.n_layers, 2, lm.d)
    every = {(sample.id, emotion) for sample in chosen for emotion in EMOTIONS}
    reset_peak()
    before = peak_mib()
    attribute(lm, asked, chosen, v, every, "emotions_mean")
    print(json.dumps({"before": before, "peak": peak_mib()}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
