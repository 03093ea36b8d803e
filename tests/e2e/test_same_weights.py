"""Is LLaMA different from Qwen? Not where both have the same weights: then every difference is 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from support.command import run
from support.own_models import save_model
from support.sweep_lines import command

from emo.model.tiny import tiny_tokenizer


def as_qwen2(llama: Path, folder: Path) -> Path:
    """Write a LLaMA's weights as a Qwen2 whose biases are 0: other code, the same function."""
    model = transformers.AutoModelForCausalLM.from_pretrained(llama)
    settings = model.config.to_dict() | {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
    other = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**settings))
    missing = other.load_state_dict(model.state_dict(), strict=False).missing_keys
    assert {name.rsplit(".", 1)[1] for name in missing} == {"bias"}
    torch.nn.Module.apply(other, _no_bias)
    other.save_pretrained(folder)
    tiny_tokenizer("qwen2").save_pretrained(folder)
    return folder


def _no_bias(module: torch.nn.Module) -> None:
    if getattr(module, "bias", None) is not None:
        torch.nn.init.zeros_(module.bias)


@pytest.mark.slow
def test_a_sweep_over_two_classes_of_the_same_weights_finds_no_difference(tmp_path: Path) -> None:
    llama = save_model(tmp_path / "llama")
    as_qwen2(llama, tmp_path / "qwen2")
    words = command(
        tmp_path,
        "model=local",
        f"model.path={llama},{tmp_path / 'qwen2'}",
        "intervention=steer",
        "evaluator=projection",
    )
    done = run(tmp_path, *words[2:])
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "outputs" / "run" / "comparisons.csv")
    assert {"steer", "none"} <= set(table["arm"]) and len(table) >= 30
    assert (table["n"] > 0).all()
    same = table[table["beyond"] != "shuffled"]  # each model has permutations of its own (docs/design/010)
    size = np.maximum(same["value_a"].abs(), 1e-3)
    assert (same["difference"].abs() / size).max() < 1e-5 < table["difference"].abs().max()
