"""Random tiny models of every family, built in code: for tests and for trying commands without a download."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from emo.core.errors import check_choice
from emo.model.families import family_of

VERSION = 2  # of the weights that a name stands for
BLOCKS, WIDTH, HEADS, KV_HEADS, FFN = 4, 32, 4, 2, 48
_CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"


class Tiny(NamedTuple):
    """What the tiny model of a family has beyond what all have."""

    extra: dict[str, Any] = {}  # keys of its transformers config, over the shared ones
    model_type: str | None = None  # of transformers, where it is not the family's name
    template: str | None = _CHAT  # of its tokenizer


# Sliding windows are shorter than a prompt, and head widths differ from width / heads, so that tests would see either
# mistake. Mistral has no block without a window: all together must reach from a prompt's end to the emotion at its
# beginning, or states do not differ.
_GEMMA = {"head_dim": 12, "sliding_window": 24, "query_pre_attn_scalar": 12}
_EXPERTS = {"num_experts_per_tok": 2}
_VISION = {
    "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip
TINY: dict[str, Tiny] = {
    "llama": Tiny(),
    "mistral": Tiny({"sliding_window": 112}),
    "qwen2": Tiny(),
    "qwen3": Tiny({"head_dim": 12}),
    "gemma2": Tiny(_GEMMA, template=_NO_SYSTEM + _CHAT),
    "gemma3": Tiny(_GEMMA | {"sliding_window_pattern": 2}, "gemma3_text"),
    "gpt2": Tiny({"n_inner": FFN}, template=None),
    "phi3": Tiny(),
    "olmo2": Tiny(),
    "granite": Tiny(
        {"residual_multiplier": 0.6, "logits_scaling": 1.5, "embedding_multiplier": 1.3, "attention_multiplier": 0.4}
    ),
    "smollm3": Tiny({"use_sliding_window": True, "sliding_window": 24}),
    "ministral": Tiny(
        {"head_dim": 12, "sliding_window": 24, "layer_types": ["full_attention", "sliding_attention"] * 2}
    ),
    "gemma3_images": Tiny({"text_config": _GEMMA | {"sliding_window_pattern": 2}, "vision_config": _VISION}, "gemma3"),
    "qwen3_moe": Tiny(
        _EXPERTS | {"head_dim": 12, "num_experts": 3, "moe_intermediate_size": FFN // 3, "norm_topk_prob": True}
    ),
    "mixtral": Tiny(_EXPERTS | {"num_local_experts": 4, "intermediate_size": FFN // 4}),
    "gpt_neox": Tiny(template=None),
}
FAMILY_NAMES = tuple(TINY)


def tiny_tokenizer(family: str = "llama") -> transformers.PreTrainedTokenizerFast:
    """Return a byte-level tokenizer with the family's chat template (on gemma2 one without a system role)."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<pad>", "<|im_start|>", "<|im_end|>"]
    vocab = {token: i for i, token in enumerate(specials + alphabet)}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<|im_start|>", eos_token="<|im_end|>"
    )
    tokenizer.chat_template = TINY[family].template
    return tokenizer


def tiny_config(family: str) -> Any:
    """Return the transformers config of the tiny model of ``family``; raises `UserError` for another name."""
    check_choice("model.id", family, TINY)
    own, vocab = TINY[family], len(tiny_tokenizer(family))
    shared = {
        "num_hidden_layers": BLOCKS,
        "hidden_size": WIDTH,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "intermediate_size": FFN,
        "vocab_size": vocab,
        "max_position_embeddings": 2048,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    extra = own.extra
    if "text_config" in extra:  # beside an image tower: all that is said is said of the text model
        return transformers.AutoConfig.for_model(
            own.model_type or family, **extra | {"text_config": shared | extra["text_config"]}
        )
    return transformers.AutoConfig.for_model(own.model_type or family, **shared | extra)


def tiny_model(family: str, seed: int = 0) -> transformers.PreTrainedModel:
    """Return a float32 model with random weights, biases and norms included, in eval mode."""
    config = tiny_config(family)
    kwargs = {"attn_implementation": "eager"} if family_of(config.model_type).eager else {}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32, **kwargs)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if weight.ndim == 1:  # norms and biases: random too, or a dropped one would go unseen
                    weight.add_(0.1 * torch.randn_like(weight))
                else:
                    weight.copy_(torch.randn_like(weight) * (0.5 if "embed" in name or "wte" in name else 0.15))
    return model.eval()
