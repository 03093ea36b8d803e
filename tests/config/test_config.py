"""Every option in conf/ composes and validates; the demo's own defaults give way to the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from emo.config.check import REPOSITORY, to_config
from emo.config.data_files import GIVEN
from emo.config.error_text import GROUPS, known_keys, unknown_key
from emo.config.schema import Config
from emo.core.errors import UserError

pytestmark = pytest.mark.long  # every option by Hydra, which is what takes time

CONF = REPOSITORY / "conf"
LABELLED = [p.stem for p in sorted(CONF.glob("dataset/*.yaml")) if "kind: labelled" in p.read_text(encoding="utf-8")]
NEEDS = {
    "model=hub": ["model.id=OWNER/NAME"],
    "model=local": ["model.path=."],
    "evaluator=prediction": ["intervention=mask"],
    **{f"dataset={name}": [f"dataset.path={__file__}"] for name in GIVEN},
    **{
        f"dataset={name}": ["intervention=mask", *([f"dataset.path={__file__}"] if name in GIVEN else [])]
        for name in LABELLED
    },
}
PACKAGED = {"experiment", "cluster"}  # groups whose files set keys of others
OPTIONS = [
    f"{path.parent.name}={path.stem}" for path in sorted(CONF.glob("*/*.yaml")) if path.parent.name not in PACKAGED
]


@pytest.fixture(scope="module", autouse=True)
def _hydra() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def config(*overrides: str) -> Config:
    return to_config(compose("config", overrides=list(overrides)))


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes(option: str) -> None:
    made = config(option, *NEEDS.get(option, []))
    group, name = option.split("=")
    section = getattr(made, group)
    written = next((getattr(section, k) for k in ("name", "template", "kind") if hasattr(section, k)), name)
    assert written == (name if option != "model=local" else Path.cwd().name)  # tables show the option's name


def test_every_experiment_composes() -> None:
    for path in sorted(CONF.glob("experiment/*.yaml")):
        second = ["against=tiny_llama"] if path.stem == "finetune_stability" else []
        assert config(f"experiment={path.stem}", "model=llama32_3b", *second).name == path.stem


@pytest.mark.parametrize("preset", sorted((REPOSITORY / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_composes(preset: Path) -> None:
    """Its file as overrides: Hydra's own keys say that it is a multirun, the rest are keys of a job."""
    node = OmegaConf.load(preset)
    assert node.hydra.mode == "MULTIRUN" and node.name == preset.stem
    assert preset.read_text(encoding="utf-8").startswith("# ")
    params = OmegaConf.select(node, "hydra.sweeper.params", default={})
    first = [f"{key}={str(values).split(',')[0]}" for key, values in params.items()]
    made = OmegaConf.merge(compose("config", overrides=first), {k: v for k, v in node.items() if k != "hydra"})
    assert to_config(made).name == preset.stem


def test_the_yaml_names_every_key_of_the_schema() -> None:
    composed = compose("config")
    missing = [key for key in known_keys() if OmegaConf.select(composed, key, default="?") == "?"]
    assert missing == []


def test_each_schema_section_is_a_group_or_in_the_primary_config() -> None:
    sections = {key.partition(".")[0] for key in known_keys() if "." in key}
    own = {"agreement", "gc", "generation", "paths"}
    assert sections == ({*GROUPS, *own} - PACKAGED) | {"cluster"}  # a group, and a section


def test_defaults_are_the_papers_except_for_the_demo_model() -> None:
    demo, paper = config(), config("model=llama32_3b")
    assert (demo.elicitation.template, demo.directions.baseline) == ("few_shot", "emotions_mean")
    assert (demo.intervention.alpha, demo.intervention.layers) == ("auto", "auto")
    assert (demo.dataset.limit, demo.generation.max_new_tokens, demo.intervention.select.prompts) == (
        6,
        40,
        12,
    )
    assert (paper.elicitation.template, paper.directions.baseline) == ("paper", "emotions_mean")
    assert (paper.intervention.alpha, paper.intervention.layers) == (8, "0.39-0.72")
    assert (paper.dataset.limit, paper.generation.max_new_tokens) == (None, 100)
    assert paper.intervention.select.prompts is None
    for made in (demo, paper):
        assert (made.intervention.kind, made.dataset.name, made.console) == ("steer", "sev", "rich")
        assert made.control.arms == ["random", "shuffled"]


def test_the_command_line_wins_over_the_demo_model() -> None:
    made = config(
        *("elicitation=paper", "intervention.alpha=8", "intervention.layers=11-20", "dataset.limit=null"),
        *(
            "directions.baseline=emotions_mean",
            "generation.max_new_tokens=100",
            "intervention.select.prompts=null",
        ),
    )
    assert made.elicitation.template == "paper"
    assert (made.intervention.alpha, made.intervention.layers) == (8, "11-20")
    assert made.dataset.limit is None
    assert made.directions.baseline == "emotions_mean"
    assert made.generation.max_new_tokens == 100
    assert made.intervention.select.prompts is None


def test_paths_do_not_depend_on_the_current_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    made = config()
    assert made.paths.outputs == str(REPOSITORY / "outputs")
    assert made.paths.store == str(REPOSITORY / "outputs" / "store")
    made = config("paths.outputs=mine")
    assert made.paths.outputs == str(tmp_path / "mine")
    assert made.paths.store == str(tmp_path / "mine" / "store")
    assert config("paths.store=/scratch/s").paths.store == "/scratch/s"


@pytest.mark.parametrize(
    ("alpha", "value"),
    [("8", 8), ("-0.5", -0.5), ("[0.5,1,-2]", [0.5, 1, -2]), ("auto", "auto"), ("0", 0)],
)
def test_alpha_takes_numbers_lists_and_auto(alpha: str, value: object) -> None:
    assert config(f"intervention.alpha={alpha}").intervention.alpha == value


@pytest.mark.parametrize(
    "override",
    [
        *(
            "intervention.alpha=[]",
            "intervention.alpha=[1,1]",
            "intervention.alpha=[1,nan]",
            "intervention.alpha=inf",
        ),
        *(
            "intervention.alpha=.nan",
            "intervention.alpha=true",
            "intervention.alpha=null",
            "intervention.alpha={a:1}",
        ),
        *("intervention.select.alpha=[nan]", "intervention.select.alpha=[]", "intervention.select.layers=[]"),
        *("intervention.select.layers=[auto]", "intervention.select.prompts=0", "intervention.decay=0"),
        *(
            "intervention.decay=-1",
            "intervention.decay=nan",
            "intervention.dose=rsm",
            "intervention.tokens=last",
        ),
        *("dataset.limit=0", "dataset.dev_fraction=0", "dataset.dev_fraction=1", "dataset.valences=[]"),
        *(
            "dataset.themes=[]",
            "dataset.path=/nowhere.jsonl",
            "emotions.names=[fear]",
            "emotions.names=[fear,fear]",
        ),
        *("control.seeds=0", "control.arms=[rnd]", "evaluator.min_distinct3=1.5", "evaluator.bootstrap=0"),
        *(
            "seed=-1",
            "batch_size=0",
            "device=tpu",
            "dtype=float64",
            "name=a/b",
            "name=..",
            "console=loud",
            "task=go",
            "tracker.mode=on",
            "tracker.name=mlflow",
        ),
    ],
)
def test_values_out_of_range_are_refused_by_key(override: str) -> None:
    key = override.partition("=")[0]
    with pytest.raises(UserError) as caught:
        config(override)
    assert str(caught.value).startswith((f"{key}=", f"{key}:"))


@pytest.mark.parametrize("dev_fraction", ["nan", "inf", "-inf"])
def test_numbers_are_finite(dev_fraction: str) -> None:
    with pytest.raises(UserError, match=r"dataset\.dev_fraction=.*finite"):
        config(f"dataset.dev_fraction={dev_fraction}")


def test_unknown_keys_name_the_nearest_and_keep_secrets() -> None:
    assert "did you mean intervention.alpha?" in unknown_key("intervention.alhpa")
    assert "did you mean intervention.alpha?" in unknown_key("alpha")
    assert "did you mean model?" in unknown_key("modle")
    assert "OPENAI_API_KEY" in unknown_key("evaluator.api_key")
    with pytest.raises(UserError, match=r"model\.idd: no such key; did you mean model\.id\?"):
        config("+model.idd=x")
