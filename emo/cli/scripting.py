"""For scripts and notebooks: a sweep by its line, and a vector of one's own added while a model writes."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from emo.config.layers import parse_layers
from emo.core.errors import UserError
from emo.core.frames import pd
from emo.core.types import Site, Tokens
from emo.model.generate import generate
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.ops import Add
from emo.model.passes import Row
from emo.model.prompts import user_ids
from emo.results.table import load_results

SWEEPING = ("-m", "--multirun", "hydra.mode=MULTIRUN")  # words that make a sweep of a line
SAID = 3  # last lines of what the command line said that an error holds


def sweep(line: str | Sequence[str]) -> pd.DataFrame:
    """Run a sweep in a process of its own, as the command line does, and return its table.

    Args:
        line: as behind ``python run.py``: ``sweeps=alpha model=tiny_llama``, or ``-m intervention.alpha=1,2``. The same
            line again continues an interrupted sweep, and runs nothing that is done.

    Raises:
        UserError: the request was wrong, nothing is swept, or a job failed; with what the command line said.
    """
    words = shlex.split(line) if isinstance(line, str) else list(line)
    if not any(word in SWEEPING or word.startswith("sweeps=") for word in words):
        typed = shlex.join(words)
        raise UserError(
            f"emo.sweep({typed!r}): nothing is swept, so it would be one whole job; type sweeps=NAME or -m KEY=A,B, or "
            f"run the job: emo.job({typed!r}).run()"
        )
    done = subprocess.run([sys.executable, "-m", "emo", *words, "console=quiet"], capture_output=True, text=True)
    if done.returncode:
        said = [text.removeprefix("error: ") for text in done.stderr.splitlines() if text.strip()]
        raise UserError("; ".join(said[-SAID:]) or f"the sweep ended with code {done.returncode}")
    return load_results(Path(done.stdout.strip().splitlines()[-1]))


def steer(
    lm: LM,
    vector: Tensor,
    prompts: str | Sequence[str],
    alpha: float,
    layers: object,
    dose: str = "rms",
    max_new_tokens: int = 100,
    batch_size: int = 64,
) -> list[str]:
    """Return greedy replies to user messages while a vector is added to the residual stream (methods 1.4).

        h <- h + alpha * scale(h) * vector / |vector|    on resid_post, from the last prompt token on

    Args:
        lm: the model.
        vector: (d,) for all blocks or (l, d), one per block of the model; a zero vector is an error.
        prompts: user messages, each a conversation of its own; a text alone is one message.
        alpha: strength in units of ``dose``; negative steers away.
        layers: ``11-20``, ``0.4-0.8``, ``7``, ``all``, a list.
        dose: rms (of the live state) | rel (of its norm, so alpha = |added| / |h|) | raw.
        max_new_tokens: longest reply, in tokens.
        batch_size: prompts in one forward pass.

    Raises:
        UserError: a vector of another width, or layers that the model does not have.
    """
    vector = torch.as_tensor(vector)
    if vector.shape not in ((lm.d,), (lm.n_layers, lm.d)):
        raise UserError(f"vector: shape {list(vector.shape)}; ({lm.d}) or ({lm.n_layers}, {lm.d}) is needed")
    blocks = parse_layers(layers, lm.n_layers, key="layers")
    rows = vector.detach().float().cpu().expand(lm.n_layers, lm.d)
    norms = rows.norm(dim=-1, keepdim=True)
    if not bool((norms[list(blocks)] > 0).all()) or not bool(rows.isfinite().all()):
        raise UserError("vector: zero or not finite at one of the layers; it has no direction")
    ids = user_ids(lm, [prompts] if isinstance(prompts, str) else prompts)
    first, strength = torch.zeros(1, dtype=torch.long), torch.tensor([float(alpha)])
    edits = [
        Edit(Site.RESID_POST, i, Add((rows[i] / norms[i])[None].contiguous(), first, strength, dose), Tokens.EVERY_STEP)
        for i in blocks
    ]
    replies = generate(lm, ids, [Row(i, 0) for i in range(len(ids))], edits, max_new_tokens, batch_size)
    return [lm.tokenizer.decode(reply, skip_special_tokens=True).strip() for reply in replies]
