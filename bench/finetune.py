"""A small fine-tuned model to try things on: LoRA on shipped texts, minutes on two cores, the same every time.

``make finetune`` or ``python -m bench.finetune [--model NAME] [--steps N] [--merged]`` writes an adapter for
``model.adapter`` (and, with --merged, a checkpoint for ``model=local``). It lies beside the benchmarks and not in the
package, because the package trains nothing.

Texts: dialogues (emo/data/texts/dialogues.jsonl), split by topic. No scenario, event, request or held-out reply
shares six words in a row with them, so that a job on scenarios measures what training did to a model, not what it has
memorised. ``dataset=dialogues`` would measure the latter: do not use it on a model that was tuned here.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import emo
from emo.core import home
from emo.core.errors import UserError
from emo.data.texts import TEXTS
from emo.model.adapter import PEFT
from emo.model.lm import LM

TOPICS_HELD_OUT = 6  # of 60: their 36 dialogues are not trained on
TOKENS = 64  # of a text at most
RANK, ALPHA = 8, 16
RATE = 5e-4  # falls linearly to 0
BATCH = 2
EIGHT = 8  # texts in a pass without gradients


class Trained(NamedTuple):
    """Where the adapter lies, and what it brought: mean loss on held-out texts (nats per token)."""

    adapter: Path
    before: float
    after: float


def texts() -> tuple[list[str], list[str]]:
    """Return the dialogues that are trained on and those that are held out, which share no topic."""
    rows = [json.loads(line) for line in (TEXTS / "dialogues.jsonl").read_text(encoding="utf-8").splitlines()]
    topics = list(dict.fromkeys(row["topic"] for row in rows))
    held_out = set(topics[:: len(topics) // TOPICS_HELD_OUT][:TOPICS_HELD_OUT])
    train, test = ([row["dialogue"] for row in rows if (row["topic"] in held_out) is out] for out in (False, True))
    return train, test


def finetune(lm: LM, folder: Path, steps: int = 200, seed: int = 0, *, merged: bool = False) -> Trained:
    """Train a LoRA adapter in float32 and write it to ``folder``; the model that is given stays as it is.

    Args:
        lm: float32.
        folder: gets the adapter; with ``merged`` the whole model lies beside it, ``...-merged`` for ``...-lora``.
        steps: of `BATCH` texts each.
        seed: of the adapter's first values and of the order of texts.
        merged: write the merged model too.
    """
    import peft

    train, test = texts()
    ids = [_ids(lm, text) for text in train]
    held_out = [_ids(lm, text) for text in test]
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        how = peft.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear", task_type="CAUSAL_LM")
        model = peft.get_peft_model(copy.deepcopy(lm.model), how).eval()  # no dropout
        model.peft_config["default"].base_model_name_or_path = (
            lm.spec.folder if lm.spec.source == "local" else lm.spec.id
        )
        before = _loss(model, held_out)
        _train(model, ids, steps, seed)
        after = _loss(model, held_out)
        model.save_pretrained(folder, save_embedding_layers=False)
        if merged:
            whole = folder.with_name(f"{folder.name.removesuffix('-lora')}-merged")
            model.merge_and_unload().save_pretrained(whole)
            lm.tokenizer.save_pretrained(whole)
    return Trained(folder, before, after)


def _train(model: Any, ids: Sequence[list[int]], steps: int, seed: int) -> None:
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1 - step / steps)
    drawn, order = random.Random(seed), []
    for step in range(steps):
        if len(order) < BATCH:
            order = drawn.sample(range(len(ids)), len(ids))
        loss = _nll(model, [ids[order.pop()] for _ in range(BATCH)])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        rate.step()
        if step % 25 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)


def _ids(lm: LM, text: str) -> list[int]:
    return [*lm.tokenizer(text, add_special_tokens=False)["input_ids"], lm.tokenizer.eos_token_id][:TOKENS]


def _nll(model: Any, texts: Sequence[list[int]]) -> torch.Tensor:
    """Return the mean loss of the tokens of some texts, nats."""
    length = max(map(len, texts))
    rows = torch.tensor([[*one, *[0] * (length - len(one))] for one in texts], device=model.device)
    seen = torch.tensor([[1] * len(one) + [0] * (length - len(one)) for one in texts], device=model.device)
    loss: torch.Tensor = model(input_ids=rows, attention_mask=seen, labels=rows.masked_fill(seen == 0, -100)).loss
    return loss


@torch.no_grad()
def _loss(model: Any, texts: Sequence[list[int]]) -> float:
    tokens = [sum(len(one) - 1 for one in texts[i : i + EIGHT]) for i in range(0, len(texts), EIGHT)]
    parts = [float(_nll(model, texts[i : i + EIGHT])) for i in range(0, len(texts), EIGHT)]
    return sum(n * x for n, x in zip(tokens, parts, strict=True)) / sum(tokens)


def main() -> int:
    given = argparse.ArgumentParser(description="Fine-tune a small model with LoRA on shipped dialogues.")
    given.add_argument("--model", default="smollm2_135m", help="an option of model=, a folder, or OWNER/NAME")
    given.add_argument("--steps", type=int, default=200)
    given.add_argument("--seed", type=int, default=0)
    given.add_argument("--merged", action="store_true", help="write the merged model too, for model=local")
    given.add_argument("--out", type=Path, default=home.folder() / "outputs" / "finetuned")
    words = given.parse_args()
    try:
        import peft  # noqa: F401
    except ImportError:
        print(f"error: the package peft is not installed; type {PEFT}", file=sys.stderr)
        return 2
    try:
        lm = emo.load_model(words.model, "cpu", "float32")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    folder = words.out / f"{lm.spec.name}-lora"
    done = finetune(lm, folder, words.steps, words.seed, merged=words.merged)
    print(f"held-out loss: {done.before:.3f} before, {done.after:.3f} after {words.steps} steps (nats per token)")
    print(f"adapter: {done.adapter}")
    print(f"next, try: python run.py model={words.model} model.adapter={done.adapter}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
