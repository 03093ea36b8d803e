"""What the cases run on: model, samples, prompts and directions, the same for us and for every peer."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
import transformers
from torch import Tensor

from emo.config.schema import DatasetConfig, ElicitationConfig, ModelConfig
from emo.data.scenarios import Sample, load_splits
from emo.find.directions import Moments
from emo.model.capture import states
from emo.model.lm import LM
from emo.model.load import describe, load
from emo.model.prefixes import Text
from emo.model.prompts import prompt_ids

EMOTIONS = ("anger", "sadness", "happiness", "fear", "surprise", "disgust")
DEFAULT, TINY = "smollm2_135m", "tiny"
MODELS = {
    DEFAULT: ModelConfig(name=DEFAULT, source="embedded", id="HuggingFaceTB/SmolLM2-135M-Instruct"),
    TINY: ModelConfig(name="tiny_llama", source="tiny", id="llama"),
}


class Size(NamedTuple):
    """How much work the cases do; samples are counted before they are asked for with six emotions."""

    heads: int  # samples of head importance in a batch
    curves: int  # samples of the k-curve
    pushed: int  # samples of sublayer importance
    captured: int  # samples of capture
    prompts: int  # prompts of generation
    tokens: int  # tokens of a reply
    memory: int  # samples at 1x


SIZES = {DEFAULT: Size(6, 12, 10, 12, 8, 24, 12), TINY: Size(2, 3, 3, 3, 2, 6, 2)}


class Prompt(NamedTuple):
    """Token ids that ask for an emotion (index)."""

    ids: list[int]
    emotion: int


def model(name: str) -> LM:
    """Load a model by its name in `MODELS`."""
    return load(describe(MODELS[name]))


@contextmanager
def weights_folder(lm: LM) -> Iterator[str]:
    """Give a folder with weights and tokenizer of ``lm``, which packages read their own copy from."""
    transformers.utils.logging.disable_progress_bar()
    if lm.spec.folder:
        yield lm.spec.folder
        return
    with tempfile.TemporaryDirectory() as folder:
        lm.model.save_pretrained(folder)
        lm.tokenizer.save_pretrained(folder)
        yield folder


def samples(count: int) -> list[Sample]:
    """Return the first test samples; the three outcomes of a scenario stand together."""
    return load_splits(DatasetConfig(name="sev"), 0).test[:count]


def emotion_prompts(lm: LM, count: int, template: str = "paper") -> list[Prompt]:
    """Return the prompts of ``count`` samples under each emotion in turn."""
    asked, chosen = ElicitationConfig(template), samples(count)
    return [Prompt(ids, e) for e, name in enumerate(EMOTIONS) for ids in prompt_ids(lm, asked, chosen, name)]


def plain_prompts(lm: LM, count: int) -> list[list[int]]:
    """Return the emotion-free prompts of ``count`` samples."""
    return prompt_ids(lm, ElicitationConfig("paper"), samples(count), None)


def typical(prompts: Sequence[Prompt]) -> int:
    """Return the prompt (index) of most nearly the mean length: it stands for all where a peer runs one."""
    mean = sum(len(p.ids) for p in prompts) / len(prompts)
    return min(range(len(prompts)), key=lambda i: abs(len(prompts[i].ids) - mean))


def unit_vectors(*shape: int) -> Tensor:
    """Return random unit vectors: to project on one costs the same whatever it stands for."""
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    return x / x.norm(dim=-1, keepdim=True)


def directions(lm: LM, count: int) -> Tensor:
    """Return the emotion directions (e, l, 2, d) of ``count`` samples: random ones would steer into noise."""
    prompts = emotion_prompts(lm, count)
    found = dict(states(lm, [Text(p.ids) for p in prompts], 64))
    moments = Moments(len(EMOTIONS), "emotions_mean", True, 0, 0)
    for i in range(count):
        moments.add(str(i), [found[e * count + i] for e in range(len(EMOTIONS))], None)
    return moments.directions()[0]
