"""The table of docs/families.md is what the rows of `emo.model.families` and the options of conf/model say."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import Any

import transformers
import yaml

from emo.config.check import REPOSITORY
from emo.core.types import Site
from emo.model.families import FAMILIES, Family, row_of
from emo.model.tiny import FAMILY_NAMES, TINY, tiny_config

PAGE = REPOSITORY / "docs" / "families.md"
OPTIONS = REPOSITORY / "conf" / "model"
HUB = {  # model_type in the config.json of what the options name: not in the YAML, and there is no network here
    "llama": ["llama2_13b", "llama31_8b", "llama31_70b", "llama32_1b", "llama32_3b", "smollm2_135m"],
    "mistral": ["mistral_7b"],
    "ministral": ["ministral_8b"],
    "qwen2": ["qwen25_0_5b", "qwen25_1_5b", "qwen25_7b", "qwen25_14b"],
    "qwen3": ["qwen3_4b"],
    "smollm3": ["smollm3_3b"],
    "granite": ["granite33_2b"],
    "phi3": ["phi35_mini", "phi4_mini"],
    "gemma2": ["gemma2_2b"],
    "gemma3_text": ["gemma3_1b", "gemma3_270m"],
    "gemma3": ["gemma3_4b"],
    "olmo2": ["olmo2_1b", "olmo2_7b"],
    "mixtral": ["mixtral_8x7b"],
    "qwen3_moe": ["qwen3_30b_a3b"],
    "gpt2": ["gpt2"],
    "gpt_neox": ["pythia_1b"],
}


def read(option: str) -> dict[str, Any]:
    """Return what an option says of the model."""
    found = yaml.safe_load((OPTIONS / f"{option}.yaml").read_text(encoding="utf-8"))
    return dict(found.get("model", found))


def tiny_of(model_type: str) -> list[str]:
    return [name for name in FAMILY_NAMES if (TINY[name].model_type or name) == model_type]


def sites(config: Any) -> str:
    """Return which sites the blocks of a model have."""
    missing = [f"`{site}`" for site in Site if site not in row_of(config).sites]
    return f"all but {', '.join(missing)}" if missing else "all"


def own(family: Family) -> str:
    """Return what a row says beyond where the modules are."""
    found = []
    if family.attention_norm and family.mlp_norm:
        found.append("norms behind attention and MLP")
    if family.mlp_input_norm is None:
        found.append("none in front of the MLP")
    if family.sites[Site.GATE] == family.sites[Site.NEURON]:
        found.append("no gate: `gate` = `neuron`")
    if family.eager:
        found.append("eager attention")
    if family.factor:
        found.append(f"what is added times `{family.factor}`")
    if family.logits_over:
        found.append(f"logits over `{family.logits_over}`")
    if family.parallel:
        found.append(f"parallel blocks where `{family.parallel}`")
    if family.experts:
        found.append("experts: a neuron is (expert, column)")
    if family.decoder:
        found.append(f"the text model at `{family.decoder}`")
    return "; ".join(found)


def rows() -> list[str]:
    """Return the lines of the table."""
    out = [
        "| `model_type` | sites | its own | checkpoints (`model=`) | tiny model | real weights |",
        "|---|---|---|---|---|---|",
    ]
    for name, family in FAMILIES.items():
        [tiny] = tiny_of(name)
        options = HUB.get(name, [])
        run = ", ".join(option for option in options if read(option).get("source") == "embedded") or "never"
        cells = [f"`{name}`", sites(tiny_config(tiny)), own(family), ", ".join(options), f"tiny_{tiny}", run]
        out.append(f"| {' | '.join(cells)} |")
    return out


def test_the_table_is_what_the_rows_say() -> None:
    """A family, a site or an option that comes or goes must come or go here; what to paste is in the failure."""
    found = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    wanted = rows()
    assert found[: len(wanted)] == wanted, "\n".join(["docs/families.md should hold", *wanted])


def test_every_option_is_of_one_family() -> None:
    """An option of the hub that nobody sorted in; a tiny model that builds another family than its name says."""
    named = [option for options in HUB.values() for option in options]
    options = [path.stem for path in OPTIONS.glob("*.yaml")]
    tiny = {option for option in options if read(option).get("source") == "tiny"}
    assert sorted(named) == sorted(set(options) - tiny - {"hub", "local"})
    assert tiny == {f"tiny_{name}" for name in FAMILY_NAMES}
    assert all(tiny_config(name).model_type == (TINY[name].model_type or name) for name in FAMILY_NAMES)
    assert set(HUB) <= set(FAMILIES)


def test_the_version_is_the_one_that_is_tested() -> None:
    """What was checked with another version of transformers was not checked with this one."""
    [said] = set(re.findall(r"transformers (\d+\.\d+\.\d+)", PAGE.read_text(encoding="utf-8")))
    pinned = re.search(r"^transformers==(\S+)$", (REPOSITORY / "constraints.txt").read_text(encoding="utf-8"), re.M)
    assert pinned is not None and said == pinned[1] == version("transformers") == transformers.__version__
