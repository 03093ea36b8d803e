"""A tiny LLaMA that holds an emotion circuit by its weights: what the pipeline must find, and steer.

Residual directions are rows of one orthogonal matrix: six carry the emotion word in the embedding, six (u_e)
carry the emotion once it is known, the rest is plain content. One head of block BLOCK attends to all tokens
alike and copies the first six onto the second six; the unembedding turns u_e into a word of that emotion.
"""

from __future__ import annotations

import torch
from tokenizers import AddedToken
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from emo.model.lm import LM, ModelSpec
from emo.model.tiny import tiny_tokenizer

WORDS = {  # the name that a prompt asks with, and the word that answers it
    "anger": "furious",
    "sadness": "mournful",
    "happiness": "joyful",
    "fear": "afraid",
    "surprise": "astonished",
    "disgust": "revolting",
}
NAMES = tuple(WORDS)
LAYERS, BLOCK, WIDTH, HEADS, FFN = 6, 2, 64, 4, 64
HEAD = WIDTH // HEADS
NOISE = 0.02  # standard deviation of every weight that is not planted
COPIED = 120.0  # gain of the planted head: a prompt of some 300 tokens has one emotion word
LOUD = 8.0  # length of the emotion part of a name's embedding; the content part is about as long
FIRES = 2.0  # weights of a planted neuron along u_e
LOGIT = 4.0  # logits of the emotion's word per unit of u_e after the final norm
SPEC = ModelSpec("planted", "tiny", "planted", "planted-1", "", LAYERS, "float32", "cpu", None, "auto")


def basis() -> Tensor:
    """Return an orthogonal matrix (d, d), one direction per row."""
    return torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(5)))[0]


def directions() -> Tensor:
    """Return u (e, d): where the planted head writes each emotion."""
    return basis()[6:12]


def contrast() -> Tensor:
    """Return what the pipeline must find, unit length (e, d): u_e without the mean over emotions."""
    x = directions() - directions().mean(0)
    return x / x.norm(dim=-1, keepdim=True)


def tokenizer() -> PreTrainedTokenizerFast:
    """Return the byte-level tokenizer with emotion names and emotion words as single tokens."""
    made = tiny_tokenizer("llama")
    made.add_tokens([AddedToken(text, single_word=True) for pair in WORDS.items() for text in pair])
    return made


def word_ids(tokens: PreTrainedTokenizerFast) -> list[int]:
    """Return the token of every emotion's word."""
    return [tokens.vocab[word] for word in WORDS.values()]


def planted_lm(neurons: bool = False) -> LM:
    """Build the model; the same weights at every call.

    With ``neurons``, neuron e of the block after BLOCK fires on u_e and writes it: six more planted units.
    """
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
    axes = basis()
    asked, felt, content = axes[:6], axes[6:12], axes[12:]
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.copy_(NOISE * torch.randn(weight.shape, generator=draw))
        embedding = model.get_input_embeddings().weight
        embedding.copy_(torch.randn(len(tokens), len(content), generator=draw) @ content)
        embedding[[tokens.convert_tokens_to_ids(name) for name in NAMES]] += LOUD * asked
        head = model.get_output_embeddings().weight
        head.zero_()
        letters = [tokens.convert_tokens_to_ids(c) for c in "abcdefghijklmnopqrstuvwxyz"]
        head[letters] = torch.randn(len(letters), len(content), generator=draw) @ content / len(content) ** 0.5
        head[word_ids(tokens)] = LOGIT * felt
        for block in model.model.layers:  # noise along the asked axes would be amplified too
            for out in (block.self_attn.o_proj.weight, block.mlp.down_proj.weight):
                out -= asked.T @ (asked @ out)
        attention = model.model.layers[BLOCK].self_attn
        attention.q_proj.weight[:HEAD] = 0  # equal scores: the head attends to all tokens alike
        attention.v_proj.weight[:HEAD] = 0
        attention.v_proj.weight[:6] = asked
        attention.o_proj.weight[:, :HEAD] = 0
        attention.o_proj.weight[:, :6] = COPIED * felt.T
        if neurons:
            mlp = model.model.layers[BLOCK + 1].mlp
            mlp.gate_proj.weight[:6] = mlp.up_proj.weight[:6] = FIRES * felt
            mlp.down_proj.weight[:, :6] = felt.T
    return LM(model.eval().requires_grad_(False), tokens, SPEC)
