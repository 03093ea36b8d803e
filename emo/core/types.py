"""Names shared by every room: sites, token selectors, and the legend of dimension letters.

Legend: n samples, g groups, e emotions, l blocks (0..L-1), b batch, t tokens of one forward pass,
s positions of a prompt, d residual width, h heads, p head width, f FFN width, c conditions, m vectors.
"""

from __future__ import annotations

from enum import StrEnum


class Site(StrEnum):
    """A place in a decoder block, named by meaning (methods 0): the same tensor on every family."""

    RESID_PRE = "resid_pre"  # (b, t, d) block input
    RESID_MID = "resid_mid"  # (b, t, d) after the attention sublayer was added
    RESID_POST = "resid_post"  # (b, t, d) after the MLP sublayer was added = block output
    ATTN_ADD = "attn_add"  # (b, t, d) what the attention sublayer adds
    MLP_ADD = "mlp_add"  # (b, t, d) what the MLP sublayer adds
    HEAD = "head"  # (b, t, h*p) input of the attention output projection
    NEURON = "neuron"  # (b, t, f) input of the MLP down projection
    GATE = "gate"  # (b, t, f) act_fn(gate projection)


class Tokens(StrEnum):
    """Which positions an edit touches."""

    PROMPT_LAST = "prompt_last"  # the last prompt token only
    EVERY_STEP = "every_step"  # the last prompt token and every later one
    ALL = "all"  # every prompt token and every later one


NEUTRAL = "neutral"  # the emotion-free form of a prompt, a reply or a label
OTHER = "other"  # what a classifier calls a reply whose likeliest labels are mapped to no class
