"""A model of Llama-3.2-3B's shape with random weights, built where it runs, and a tokenizer of words for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import torch
import transformers
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from bench.inputs import EMOTIONS
from emo.config.schema import DatasetConfig, ElicitationConfig
from emo.data.scenarios import Sample, load_splits
from emo.model.lm import LM, ModelSpec
from emo.model.prompts import messages

SPECIALS = ("<pad>", "<|im_start|>", "<|im_end|>", "<unk>")
WORDS = r"\w+|[^\w\s]"  # about as many tokens as a vocabulary of 128,256 needs
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Shape(NamedTuple):
    """A model's sizes, and how much work is timed on it."""

    name: str
    blocks: int
    d: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    dtype: str
    samples: int | None  # of each split; None: all, as in the paper
    tokens: int  # of a reply
    rows: int  # replies in one batch
    edits: tuple[int, ...]  # different edits in that batch
    batch_size: int


FULL = Shape(
    "llama-3.2-3b shape", 28, 3072, 24, 8, 128, 8192, 128_256, "bfloat16", None, 100, 256, (1, 8, 64, 256), 128
)
TINY = Shape("tiny shape", 2, 32, 4, 2, 8, 48, 0, "float32", 2, 6, 8, (1, 2, 8), 8)  # a vocabulary of what it is asked


class Samples(NamedTuple):
    """What the protocol extracts from and replies to: 480 each, so 2,880 prompts under six emotions."""

    extraction: list[Sample]
    test: list[Sample]


def build(shape: Shape, device: torch.device) -> tuple[LM, Samples]:
    """Return the model and the samples of the protocol; weights are drawn on ``device``, nothing is copied there."""
    splits = load_splits(DatasetConfig(name="sev"), 0)
    samples = Samples([*splits.extract, *splits.dev][: shape.samples], splits.test[: shape.samples])
    tokenizer = word_tokenizer([*samples.extraction, *samples.test])
    vocabulary = max(shape.vocabulary, len(tokenizer))
    config = transformers.LlamaConfig(
        num_hidden_layers=shape.blocks, hidden_size=shape.d, num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads, head_dim=shape.head_dim, intermediate_size=shape.ffn,
        vocab_size=vocabulary, max_position_embeddings=8192, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        tie_word_embeddings=False,  # random weights that are tied repeat their last token for ever
    )  # fmt: skip
    torch.manual_seed(0)
    with torch.device(device):
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, shape.dtype))
    spec = ModelSpec(
        shape.name, "random", shape.name, "random", "", shape.blocks, shape.dtype, str(device), None, "auto",
        family="llama", n_heads=shape.heads, n_neurons=shape.ffn,
    )  # fmt: skip
    return LM(model.eval().requires_grad_(False), tokenizer, spec), samples


def word_tokenizer(samples: Sequence[Sample]) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer that knows every word of the prompts."""
    words = {
        word
        for sample in samples
        for emotion in (None, *EMOTIONS)
        for turn in messages(ElicitationConfig("paper"), sample, emotion, 0)
        for word in re.findall(WORDS, f"{turn['role']} {turn['content']}")
    }
    vocabulary = {word: i for i, word in enumerate([*SPECIALS, *sorted(words | {"assistant"})])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "removed", invert=True)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<unk>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer
