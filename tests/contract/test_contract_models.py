"""Sites mean the same on every family, and a row that names other modules is refused at load."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from support.modules import columns, experts, final_norm, gated, norms, parent, query, up_row, ups
from support.twin import TOLERANCE, gap, prompt, sites, width
from torch import Tensor, nn

from emo.core.errors import UserError
from emo.core.types import Site
from emo.model.families import FAMILIES, LLAMA, Family, family_of
from emo.model.hooks import reading
from emo.model.lm import LM
from emo.model.prefix_tree import TokenTrees, plain_block
from emo.model.tiny import BLOCKS, FFN, HEADS, TINY, WIDTH
from emo.model.verify import verify

pytestmark = pytest.mark.usefixtures("quiet")
IDS = prompt(40)  # longer than the sliding windows


def read(lm: LM, of: Sequence[Site] | None = None) -> dict[tuple[Site, int], Tensor]:
    """Return the activations (t, w) of one plain pass; every site must be met exactly once."""
    seen: dict[tuple[Site, int], Tensor] = {}
    calls: list[tuple[Site, int]] = []
    wanted = [(site, layer) for site in of or sites(lm) for layer in range(lm.n_layers)]

    def sink(site: Site, layer: int, x: Tensor) -> None:
        calls.append((site, layer))
        seen[site, layer] = x[0]

    with torch.inference_mode(), reading(lm, wanted, sink):
        lm.model(input_ids=torch.tensor([IDS]), use_cache=False)
    assert sorted(calls) == sorted(wanted)
    return seen


def submodule_io(lm: LM, layer: int, path: str) -> tuple[Tensor, Tensor]:
    """Return input and output (t, w) of a module by its path, through a torch hook of the test's own."""
    kept: list[Tensor] = []

    def hook(_: nn.Module, args: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        kept.extend([args[0][0], (output[0] if isinstance(output, tuple) else output)[0]])

    handle = lm.blocks[layer].get_submodule(path).register_forward_hook(hook)
    with torch.inference_mode():
        lm.model(input_ids=torch.tensor([IDS]), use_cache=False)
    handle.remove()
    return kept[0], kept[1]


def with_row(lm: LM, **changed: tuple[str, str]) -> LM:
    """Return the same model under a family row with some sites elsewhere."""
    other = LM(lm.model, lm.tokenizer, lm.spec)
    other.family = lm.family._replace(sites=lm.family.sites | {Site(k): v for k, v in changed.items()})
    return other


def test_sizes_are_those_of_the_weights(lm: LM) -> None:
    """Head width taken as hidden / heads is wrong on Qwen3 and Gemma."""
    extra = TINY[lm.spec.id].extra
    head_dim = extra.get("text_config", extra).get("head_dim", WIDTH // HEADS)
    assert (lm.n_layers, lm.d, lm.h, lm.p, lm.f) == (BLOCKS, WIDTH, HEADS, head_dim, FFN)
    seen = read(lm)
    widths = {Site.HEAD: HEADS * head_dim, Site.NEURON: FFN, Site.GATE: FFN}
    for (site, _), x in seen.items():
        assert x.shape == (len(IDS), widths.get(site, WIDTH))
        assert width(lm, site) == widths.get(site, WIDTH)


def test_residual_contract(lm: LM) -> None:
    """A sublayer's raw output on Gemma (before its post-norm) does not sum to the stream."""
    seen = read(lm)
    for layer in range(lm.n_layers):
        pre, post, attn, mlp = (seen[s, layer] for s in (Site.RESID_PRE, Site.RESID_POST, Site.ATTN_ADD, Site.MLP_ADD))
        assert gap(post, pre + attn + mlp) <= TOLERANCE
        if Site.RESID_MID not in sites(lm):
            assert min(x.abs().max() for x in (attn, mlp)) > 1e-2
            continue
        mid = seen[Site.RESID_MID, layer]
        assert gap(mid, pre + attn) <= TOLERANCE
        assert gap(mid, post - mlp) <= TOLERANCE
        assert min(gap(mid, pre), gap(post, mid)) > 1e-2  # no part is zero: each would be missed


def test_block_numbers_are_those_of_the_model(lm: LM) -> None:
    """A block index off by one: block l reads hidden_states[l] and writes hidden_states[l + 1]."""
    seen = read(lm, [Site.RESID_PRE, Site.RESID_POST])
    with torch.inference_mode():
        own = copy.deepcopy(lm.model)  # transformers leaves hooks of its own behind where it is asked for these
        out = own(input_ids=torch.tensor([IDS]), use_cache=False, output_hidden_states=True)
    for layer in range(lm.n_layers):
        assert torch.equal(seen[Site.RESID_PRE, layer], out.hidden_states[layer][0])
        if layer + 1 < lm.n_layers:
            assert torch.equal(seen[Site.RESID_POST, layer], out.hidden_states[layer + 1][0])


def test_last_resid_post_is_before_the_final_norm(lm: LM) -> None:
    """Hugging Face's last hidden state is already normed; ours is not."""
    last = read(lm, [Site.RESID_POST])[Site.RESID_POST, lm.n_layers - 1]
    with torch.inference_mode():
        normed = lm.model.base_model(input_ids=torch.tensor([IDS]), use_cache=False).last_hidden_state[0]
    norm = final_norm(lm)
    assert gap(last, normed) > 1e-2
    assert gap(norm(last), normed) <= TOLERANCE


def test_heads_sum_to_the_attention_output(lm: LM) -> None:
    """A head site after the projection, or a wrong head width, does not decompose attn_add."""
    seen = read(lm, [Site.HEAD, Site.ATTN_ADD])
    for layer in range(lm.n_layers):
        project, z = lm.module(Site.HEAD, layer)[0], seen[Site.HEAD, layer]
        bias = 0 if project.bias is None else project.bias
        total = torch.zeros(len(IDS), lm.d) + bias
        for head in range(lm.h):
            kept = torch.zeros_like(z)
            columns = slice(head * lm.p, (head + 1) * lm.p)
            kept[:, columns] = z[:, columns]
            total = total + project(kept) - bias
        total = total * getattr(lm.config, "residual_multiplier", 1.0)
        norm = lm.family.attention_norm
        before = seen[Site.ATTN_ADD, layer] if norm is None else submodule_io(lm, layer, norm)[0]
        assert gap(total, before) <= TOLERANCE
        if norm is not None:
            assert gap(lm.blocks[layer].get_submodule(norm)(total), seen[Site.ATTN_ADD, layer]) <= TOLERANCE


def test_neurons_sum_to_the_mlp_output(lm: LM) -> None:
    """The output of the activation function (not multiplied by the up projection) is no neuron site."""
    seen = read(lm, [Site.NEURON, Site.MLP_ADD, Site.GATE])
    for layer in range(lm.n_layers):
        x, (each, bias) = seen[Site.NEURON, layer], columns(lm, layer)
        parts = x[:, :, None] * each  # (t, f, d): what every neuron adds
        total = parts.sum(1) + bias
        norm = lm.family.mlp_norm
        before = seen[Site.MLP_ADD, layer] if norm is None else submodule_io(lm, layer, norm)[0]
        assert gap(total, before) <= TOLERANCE
        if norm is not None:
            assert gap(lm.blocks[layer].get_submodule(norm)(total), seen[Site.MLP_ADD, layer]) <= TOLERANCE
        if gated(lm) and experts(lm, layer) is None:
            up = submodule_io(lm, layer, ups(lm, layer)[0])[1][:, -lm.f :]
            assert gap(x, seen[Site.GATE, layer] * up) <= TOLERANCE


@pytest.mark.parametrize("unit", [0, 2])
def test_slices_belong_to_their_head_and_neuron(lm: LM, unit: int) -> None:
    """Heads in another order: other query weights of one head must change that head's slice alone."""
    other = LM(copy.deepcopy(lm.model), lm.tokenizer, lm.spec)
    query(other, 0, unit)[:] *= -1
    up_row(other, 0, unit)[:] *= -1
    both = [Site.HEAD, Site.NEURON]
    after, before = read(other, both), read(lm, both)
    moved = {s: (after[s, 0] != before[s, 0]).any(0) for s in both}
    expected = torch.zeros(lm.h * lm.p, dtype=torch.bool)
    expected[unit * lm.p : (unit + 1) * lm.p] = True
    assert torch.equal(moved[Site.HEAD], expected)
    assert moved[Site.NEURON][unit]  # the other neurons move too: they read what attention wrote


def test_logits_of_hidden_states(lm: LM) -> None:
    """A forgotten soft cap (Gemma-2), or the states before the final norm."""
    hidden = TokenTrees(lm).extend(plain_block([IDS], lm.device))
    with torch.inference_mode():
        own = lm.model(input_ids=torch.tensor([IDS]), use_cache=False).logits
    assert gap(lm.logits(hidden), own) <= TOLERANCE
    assert lm.logits(hidden).dtype is torch.float32


def test_verify_passes(lm: LM) -> None:
    """A family whose row is right must load."""
    verify(lm)


@pytest.mark.parametrize("site", list(Site))
def test_verify_names_a_missing_module(lm: LM, site: Site) -> None:
    """A user whose architecture is missing must learn which site fails and what to add."""
    with pytest.raises(UserError) as error:
        verify(with_row(lm, **{site: ("no.such_module", "in")}))
    for part in (f"site '{site}'", "'no.such_module'", f"'{lm.kind}'", "emo/model/families.py"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("site", "place", "named"),
    [
        (Site.RESID_MID, ("input_layernorm", "in"), "resid_mid of block 0"),
        (Site.RESID_POST, ("mlp", "out"), "resid_post of block 0"),
        (Site.ATTN_ADD, ("mlp", "out"), "resid_mid of block 0"),
        (Site.MLP_ADD, ("self_attn", "out"), "resid_post of block 0"),
        (Site.RESID_PRE, ("input_layernorm", "out"), "resid_mid of block 0"),
        (Site.HEAD, ("mlp.down_proj", "in"), "site 'head' of block 0"),
    ],
)
def test_verify_refuses_a_wrong_module(lm: LM, site: Site, place: tuple[str, str], named: str) -> None:
    """A row that names an existing but other module must not end in a figure."""
    path = {
        "input_layernorm": norms(lm.blocks[0])[0],
        "self_attn": parent(lm, Site.HEAD),
        "mlp": parent(lm, Site.NEURON),
        "mlp.down_proj": lm.family.sites[Site.NEURON][0],
    }[place[0]]
    if site is Site.HEAD and lm.h * lm.p == lm.f:
        path = "mlp"  # the two widths happen to be equal
    if Site.RESID_MID not in sites(lm):
        named = named.replace("resid_mid", "resid_post")  # nothing to look at before it
    with pytest.raises(UserError) as error:
        verify(with_row(lm, **{site: (path, place[1])}))
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", ["gemma2", "gemma3"])
def test_sublayer_outputs_before_a_post_norm_are_refused(models: dict[str, LM], family: str) -> None:
    """The LLaMA row on Gemma: attn_add before its post-norm."""
    with pytest.raises(UserError, match="resid_mid of block 0 is not the sum"):
        verify(with_row(models[family], attn_add=("self_attn", "out")))


def test_unknown_model_type(models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown type is tried as LLaMA; where that fails, the message says what to add."""
    assert family_of("nothing_like_it") is LLAMA
    llama, gpt2 = models["llama"], models["gpt2"]
    monkeypatch.setattr(llama.config, "model_type", "nothing_like_it")
    verify(LM(llama.model, llama.tokenizer, llama.spec))
    monkeypatch.setattr(gpt2.config, "model_type", "nothing_like_it")
    with pytest.raises(UserError) as error:
        LM(gpt2.model, gpt2.tokenizer, gpt2.spec)
    for part in ("tiny_gpt2", "'nothing_like_it'", "'model.layers'", "FAMILIES in emo/model/families.py"):
        assert part in str(error.value)


def softened(out: Any) -> Any:
    """Do to the logits what no key of the configuration tells of."""
    out.logits = out.logits.tanh()
    return out


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (softened, "its logits are not those of its output head; such"),
        (lambda out: out.__class__(logits=3 * out.logits), "its logits are 3 times those of its output head; such"),
    ],
)
def test_a_head_of_its_own_is_refused(
    models: dict[str, LM], monkeypatch: pytest.MonkeyPatch, change: Callable[[Any], Any], named: str
) -> None:
    """Margins, perplexity and KL would be those of another model."""
    lm = models["llama"]
    own = lm.model.forward
    monkeypatch.setattr(lm.model, "forward", lambda **given: change(own(**given)))
    with pytest.raises(UserError) as error:
        verify(lm)
    assert f"tiny_llama: model type 'llama': {named}" in str(error.value)


def test_another_pass_is_refused(models: dict[str, LM], monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask of which `LM.hidden` knows nothing changes the states, not the head."""
    own = LM.hidden
    monkeypatch.setattr(LM, "hidden", lambda *given: 1.1 * own(*given) + 0.1)
    with pytest.raises(UserError, match="a pass with keys and values kept gives other logits than the model's own"):
        verify(models["llama"])


def test_rows_hold_every_site() -> None:
    """A site without an entry would be a KeyError, not a message."""
    assert all(isinstance(row, Family) and set(row.sites) == set(Site) for row in FAMILIES.values())
