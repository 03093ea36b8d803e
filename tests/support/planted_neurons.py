"""A tiny LLaMA with class neurons planted in its weights: what selectors must find, and masking must break.

Residual directions are rows of one orthogonal matrix. Every token has the constant direction; a word of class c has
`marks[c]` too. In blocks PLANTED, neurons of class c fire on `marks[c]`, are held silent by the constant direction
otherwise, and write `felt[c]`. One head of the last block attends to all tokens alike and copies `felt[c]` to
`told[c]`, which the unembedding turns into the name of the class. Other neurons fire on random words of any class.
"""

from __future__ import annotations

import random

import torch
from tokenizers import AddedToken
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from emo.find.selectors import Ranked
from emo.model.lm import LM, ModelSpec
from emo.model.tiny import tiny_tokenizer

WORDS = {  # the name of a class, and the words that its texts are made of
    "anger": "slam shout fist glare insult argue blame kick yell rage bark growl snap curse fume threat",
    "sadness": "tears grave alone grief weep loss sigh funeral ache mourn gloom empty regret hurt sob fade",
    "happiness": "smile laugh sunny party gift cheer dance sing hug joke prize picnic play win kite treat",
}
NEUTRAL = "table street paper window coffee office train pencil"
CLASSES = tuple(WORDS)
LAYERS, PLANTED, WIDTH, HEADS, FFN = 4, (1, 2), 64, 4, 48
PER_BLOCK = 4  # planted neurons of a class in a block
HEAD = WIDTH // HEADS
NOISE = 0.02  # standard deviation of every weight that is not planted
LOUD, STEADY = 8.0, 4.0  # lengths of a mark and of the constant direction in an embedding; the content is about 7
FIRES, SILENT = 3.0, -2.0  # gate weights of a planted neuron along its mark, and along the constant direction
READS = 0.3  # standard deviation of the other neurons' gate and up weights along the content
WRITES = 0.05  # down weights of a planted neuron
COPIED = 30.0  # gain of the planted head: a prompt may be mostly instructions
LOGIT = 4.0  # logits of a class's name per unit of `told` after the final norm
SPEC = ModelSpec(
    "planted_neurons", "tiny", "planted_neurons", "planted-1", "", LAYERS, "float32", "cpu", None, "auto",
    family="llama", n_heads=HEADS, n_neurons=FFN,
)  # fmt: skip


def tokenizer() -> PreTrainedTokenizerFast:
    """Return the byte-level tokenizer with names and words as single tokens, the space before them included."""
    made = tiny_tokenizer("llama")
    words = [*CLASSES, *" ".join(WORDS.values()).split(), *NEUTRAL.split()]
    made.add_tokens([AddedToken(word, single_word=True, lstrip=True) for word in words])
    return made


def basis() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return marks, felt, told (C, d), the constant direction (d,) and the content directions."""
    axes = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(5)))[0]
    return axes[:3], axes[3:6], axes[6:9], axes[9], axes[10:]


def neurons() -> tuple[Ranked, ...]:
    """Return the planted neurons of every class: the same columns in every planted block."""
    out = []
    for c in range(len(CLASSES)):
        own = torch.arange(c * PER_BLOCK, (c + 1) * PER_BLOCK)
        layer = torch.tensor(PLANTED).repeat_interleave(PER_BLOCK)
        out.append(Ranked(layer, own.repeat(len(PLANTED)), torch.ones(len(layer)).double()))
    return tuple(out)


def texts(count: int, seed: int = 0) -> list[tuple[str, int]]:
    """Return ``count`` (text, class) of each class: 8 to 16 words, one in ten of them neutral."""
    draw = random.Random(seed)
    made = []
    for c in list(range(len(CLASSES))) * count:
        own, neutral = WORDS[CLASSES[c]].split(), NEUTRAL.split()
        words = [draw.choice(own if draw.random() < 0.9 else neutral) for _ in range(draw.randint(8, 16))]
        made.append((" ".join(words), c))
    return made


def planted_lm() -> LM:
    """Build the model; the same weights at every call."""
    tokens = tokenizer()
    config = AutoConfig.for_model(
        "llama",
        num_hidden_layers=LAYERS,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        intermediate_size=FFN,
        vocab_size=len(tokens),
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    draw = torch.Generator().manual_seed(7)
    marks, felt, told, steady, content = basis()
    written = torch.cat([marks, felt, told, steady[None]])  # nobody but the planted weights writes these
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(NOISE * torch.randn(weight.shape, generator=draw))
        embedding = model.get_input_embeddings().weight
        embedding.copy_(torch.randn(len(tokens), len(content), generator=draw) @ content + STEADY * steady)
        for mark, words in zip(marks, WORDS.values(), strict=True):
            embedding[tokens.convert_tokens_to_ids(words.split())] += LOUD * mark
        head = model.get_output_embeddings().weight
        head.zero_()
        letters = [tokens.convert_tokens_to_ids(c) for c in "abcdefghijklmnopqrstuvwxyz"]
        head[letters] = torch.randn(len(letters), len(content), generator=draw) @ content / len(content) ** 0.5
        head[tokens.convert_tokens_to_ids(list(CLASSES))] = LOGIT * told
        for block in model.model.layers:
            mlp = block.mlp
            for weight, offset in ((mlp.gate_proj.weight, -0.25), (mlp.up_proj.weight, 0.5)):
                weight.copy_(READS * torch.randn(FFN, len(content), generator=draw) @ content + offset * steady)
            for out in (block.self_attn.o_proj.weight, mlp.down_proj.weight):
                out -= written.T @ (written @ out)
        planted = neurons()
        for layer in PLANTED:
            mlp = model.model.layers[layer].mlp
            for c, own in enumerate(planted):
                columns = own.unit[own.layer == layer]
                mlp.gate_proj.weight[columns] = FIRES * marks[c] + SILENT * steady
                mlp.up_proj.weight[columns] = (
                    marks[c] + 0.1 * steady
                )  # positive, so that the product has the gate's sign
                mlp.down_proj.weight[:, columns] = WRITES * felt[c][:, None]
        attention = model.model.layers[-1].self_attn
        attention.q_proj.weight[:HEAD] = 0  # equal scores: the head attends to all tokens alike
        attention.v_proj.weight[:HEAD] = 0
        attention.v_proj.weight[: len(CLASSES)] = felt
        attention.o_proj.weight[:, :HEAD] = 0
        attention.o_proj.weight[:, : len(CLASSES)] = COPIED * told.T
    return LM(model.eval().requires_grad_(False), tokens, SPEC)
