"""Which keys each kind of job reads, written down here by hand; a typed one that nothing reads is refused by name."""

from __future__ import annotations

import pytest
from support.jobs import compose

from emo.config.error_text import known_keys
from emo.config.interventions import KINDS
from emo.config.interventions import kinds as kinds_of
from emo.config.kinds import KINDS as CLASS_KINDS
from emo.config.read_keys import RULES, expand, refuse_unread, unread, without_effect
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.edit.class_arms import arms_of

ALWAYS = "batch_size console device dtype evaluator.bootstrap evaluator.name name seed size task intervention.kind"
ALWAYS += " cluster.attempts cluster.jobs_per_task cluster.wait"
REPLIES = "generation.max_new_tokens generation.decoding evaluator.kl_tokens evaluator.min_distinct3 "
REPLIES += "evaluator.min_distinct4 evaluator.max_nonwords evaluator.metrics emotions.names emotions.words"
EDIT = "intervention.tokens intervention.decay control.seeds control.score_seeds"
STEER = "intervention.alpha intervention.dose intervention.layers"
UNITS = "intervention.k intervention.pool intervention.layers control.units attribution.check"
CIRCUIT = (
    "against circuit.path circuit.budget circuit.split circuit.floor circuit.cap circuit.allocation circuit.layers "
)
CIRCUIT += "circuit.head_tokens circuit.reference_layers circuit.push_sizes circuit.sigma circuit.importance_at "
CIRCUIT += "attribution.score_at control.circuits"
ADDED = "intervention.scale circuit.delta_baseline"
SELECTOR = "selector.name selector._target_ selector.site selector.tokens selector.ratio selector.filter "
SELECTOR += "selector.assignment selector.space circuit.path evaluator.answer evaluator.score emotions.names"
MASK = "intervention.layers control.units control.seeds"
SCENARIOS = {  # kind -> what it reads, on scenarios with evaluator=margin, beside ALWAYS and REPLIES
    "none": "",
    "prompt": "",
    "steer": f"{EDIT} {STEER} control.arms",
    "prompt_steer": f"{EDIT} {STEER} control.arms",
    "random": f"{EDIT} {STEER}",
    "shuffled": f"{EDIT} {STEER}",
    "ablate_neurons": f"{EDIT} {UNITS}",
    "ablate_heads": f"{EDIT} {UNITS} attribution.score_at",
    "enhance_neurons": f"{EDIT} {UNITS} {ADDED}",
    "enhance_heads": f"{EDIT} {UNITS} {ADDED} attribution.score_at",
    "circuit": f"{EDIT} {STEER} {CIRCUIT} {ADDED} circuit.dose",
    "prompt_circuit": f"{EDIT} {STEER} {CIRCUIT} {ADDED} circuit.dose",
    "ablate_circuit": f"{EDIT} {CIRCUIT}",
}
CLASSES = {  # words -> what it reads on labelled texts, beside ALWAYS and SELECTOR
    "intervention=mask": f"{MASK} intervention.op intervention.ratio intervention.ratio_of",
    "intervention=mask intervention.op=attenuate":
        f"{MASK} intervention.op intervention.ratio intervention.ratio_of intervention.attenuation "
        "intervention.attenuate_by",
    "intervention=mask intervention.op=gain":
        f"{MASK} intervention.op intervention.ratio intervention.ratio_of intervention.gain",
    "intervention=adaptive_mask": f"{MASK} intervention.attenuate_by adaptive.alpha adaptive.alpha_step adaptive.tau "
        "adaptive.tau_step adaptive.margin adaptive.rounds",
    "intervention=induce": f"{MASK} intervention.scale generation.max_new_tokens",
    "intervention=inject": f"{MASK} intervention.scale",
}  # fmt: skip
FIXED = ("model", "paths", "elicitation", "directions", "dataset")  # sections that are looked at below


@pytest.fixture(scope="module")
def made() -> dict[str, Config]:
    """Return the configuration of every line of words that a test of this file needs."""
    words = {kind: f"intervention={kind} evaluator=margin" for kind in SCENARIOS} | {line: line for line in CLASSES}
    return {key: compose(["model=tiny_llama", *line.split()]) for key, line in words.items()}


@pytest.mark.parametrize("kind", SCENARIOS)
def test_what_a_kind_reads_on_scenarios(kind: str, made: dict[str, Config]) -> None:
    """Every key of the schema, one way or the other."""
    read = set(known_keys()) - set(unread(made[kind]))
    told = {*ALWAYS.split(), *REPLIES.split(), *SCENARIOS[kind].split(), "tracker.name"}
    assert {key for key in read if key.partition(".")[0] not in FIXED} == told
    assert {"elicitation.template", "directions.last", "dataset.themes", "dataset.dev_fraction"} <= read
    assert not {"dataset.text", "dataset.task", "model.revision", "model.path"} & read
    assert {"model.id", "model.chat", "model.adapter"} <= read


@pytest.mark.parametrize("line", CLASSES)
def test_what_a_kind_reads_on_classes(line: str, made: dict[str, Config]) -> None:
    read = set(known_keys()) - set(unread(made[line]))
    told = {*ALWAYS.split(), *SELECTOR.split(), *CLASSES[line].split(), "tracker.name"}
    assert {key for key in read if key.partition(".")[0] not in FIXED} == told
    assert {"dataset.text", "dataset.labels", "dataset.limit"} <= read
    assert not {"dataset.themes", "elicitation.template", "directions.tokens"} & read


def test_every_kind_is_here_and_every_rule_names_keys() -> None:
    kinds = {word.partition("=")[2] for line in CLASSES for word in line.split() if word.startswith("intervention=")}
    assert {*SCENARIOS, *kinds} == set(KINDS)
    assert {*kinds_of("neurons", "heads", "circuit")} <= set(SCENARIOS) and kinds == set(CLASS_KINDS)
    assert all(expand(key) for rule in RULES for key in rule.keys)


@pytest.mark.parametrize("key", [*SCENARIOS])
def test_what_no_address_holds_is_read_by_nothing(key: str, made: dict[str, Config]) -> None:
    """The address and the refusal are of one table: a key that changes the numbers is never left out."""
    assert without_effect(made[key]) <= set(unread(made[key]))


@pytest.mark.parametrize(
    ("kind", "word", "said"),
    [
        ("steer", "tracker.mode=online", "not read by tracker=none, only by tracker=wandb; of tracker it reads name"),
        ("steer", "intervention.k=8", "not read by intervention=steer, only by interventions on neurons or heads; of "
         "intervention it reads kind, alpha, layers, dose, tokens, decay"),
        ("steer", "control.units=[random]", "of control it reads arms, seeds, score_seeds"),
        ("steer", "circuit.budget=5x", "it reads nothing of circuit"),
        ("steer", "+attribution.check=2", "it reads nothing of attribution"),
        ("steer", "selector=cas", "not read by dataset=sev, only by masks"),
        ("steer", "selector.ratio=0.1", "not read by dataset=sev"),
        ("steer", "dataset.label=emotion", "only by labelled texts"),
        ("steer", "intervention.select.alpha=[1]", "only by intervention.alpha=auto"),
        ("steer", "intervention.select={alpha: [1]}", "only by intervention.alpha=auto"),
        ("steer", "evaluator.concurrency=2", "not read by evaluator=margin, only by evaluator=openai_judge"),
        ("steer", "evaluator.settings={a: 1}", "only by an evaluator of your own: evaluator._target_=MODULE.Class"),
        ("steer", "emotions.descriptions.fear=x", "only by the blind question"),
        ("steer", "runs=outputs/run", "not read by task=run"),
        ("steer", "gc.delete=true", "not read by task=run, only by task=gc"),
        ("steer", "gc.hours=1", "not read by task=run, only by task=gc"),
        ("steer", "model.path=somewhere", "not read by model=tiny_llama, only by model=local"),
        ("steer", "model.revision=step1000", "not read by model=tiny_llama, only by models of the hub"),
        ("ablate_heads", "intervention.scale=2", "only by what is added to units"),
        ("ablate_circuit", "intervention.alpha=2", "only by steering"),
        ("circuit", "intervention.k=2", "not read by intervention=circuit"),
        ("intervention=mask", "intervention.alpha=0.3", "reads kind, layers, op, ratio, ratio_of; leave it out"),
        ("intervention=mask intervention.op=attenuate", "intervention.alpha=0.3", "attenuate_by, attenuation; "),
        ("intervention=mask intervention.op=gain", "intervention.scale=2", "ratio, ratio_of, gain; leave it out"),
        ("intervention=mask", "evaluator.metrics=[a.B]", "evaluator=prediction, only by evaluators of replies"),
        ("intervention=mask", "adaptive.rounds=2", "only by intervention=adaptive_mask"),
        ("intervention=mask", "elicitation=persona", "not read by dataset=dialogues, only by scenarios"),
        ("intervention=adaptive_mask", "intervention.ratio=0.5", "only by masks"),
    ],
)  # fmt: skip
def test_a_typed_key_that_nothing_reads_is_refused(kind: str, word: str, said: str, made: dict[str, Config]) -> None:
    with pytest.raises(UserError) as refused:
        refuse_unread(["seed=1", word], [made[kind]])
    assert str(refused.value).startswith(f"{word}: not read by ") and said in str(refused.value)


def test_one_job_that_reads_it_is_enough(made: dict[str, Config]) -> None:
    """In a sweep, and in an experiment of several jobs; a group that is switched off harms nobody."""
    steer, ablate = made["steer"], made["ablate_neurons"]
    refuse_unread(["intervention.k=8", "intervention.alpha=2", "sweeps=alpha", "cluster=slurm"], [steer, ablate])
    refuse_unread(["control.seeds=2", "control.score_seeds=1", "generation.max_new_tokens=8"], [made["none"]])
    refuse_unread(["control=none", "tracker=none", "hydra.sweeper.jobs=[]", "-m"], [made["none"]])
    with pytest.raises(UserError, match=r"^intervention\.scale=2: .*intervention=steer, intervention=ablate_neurons, "):
        refuse_unread(["intervention.scale=2"], [steer, ablate])


def test_what_a_choice_brings_along_is_read_with_it(made: dict[str, Config]) -> None:
    def with_words(*words: str) -> Config:
        return compose(["model=tiny_llama", *words])

    judge = unread(with_words("evaluator=openai_judge", "tracker=wandb"))
    assert not {"evaluator.model", "evaluator.questions", "evaluator.retries", "tracker.mode"} & set(judge)
    assert "evaluator.labels" in judge and "evaluator.model" in unread(made["steer"])
    auto = unread(with_words("intervention.alpha=auto", "evaluator=projection"))
    assert not {"intervention.select.alpha", "generation.max_new_tokens", "evaluator.min_distinct3"} & set(auto)
    given = unread(with_words("intervention.alpha=1", "evaluator=projection"))
    assert {"intervention.select.alpha", "generation.max_new_tokens", "evaluator.min_distinct3"} <= set(given)
    saved = unread(with_words("intervention=circuit", "circuit.path=somewhere"))
    assert {"circuit.budget", "circuit.sigma", "attribution.score_at"} <= set(saved)
    assert "circuit.allow_other_weights" not in saved
    assert "selector.assignment" in unread(with_words("intervention=mask", "selector=cas"))


# --- strengths of masks ------------------------------------------------------------------------------


def mask(*words: str) -> Config:
    return compose(["intervention=mask", "control=none", *words])


def strengths(*words: str) -> dict[str, float]:
    """Return the strength of every edited arm."""
    return {arm.name: arm.strength for arm in arms_of(mask(*words), []) if arm.pick == "own"}


@pytest.mark.parametrize("model", ["tiny_llama", "smollm2_135m", "llama32_3b"])
def test_a_mask_has_a_strength_of_its_own(model: str) -> None:
    """Whatever alpha and scale the model's file, or the paper, gives to steering and circuits."""
    choice = f"model={model}"
    assert strengths(choice, "intervention.op=attenuate") == {"mask": 1.0}
    assert strengths(choice, "intervention.op=gain") == {"mask": 0.5}
    assert strengths(choice, "intervention.op=attenuate", "intervention.attenuation=[0.2,0.7]") == {
        "mask@attenuation=0.2": 0.2, "mask@attenuation=0.7": 0.7,
    }  # fmt: skip
    assert strengths(choice, "intervention.op=gain", "intervention.gain=[0.5,2]") == {
        "mask@gain=0.5": 0.5, "mask@gain=2": 2.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["intervention.attenuation=1.5"], "intervention.attenuation=1.5: a number above 0"),
        (["intervention.attenuation=0"], "intervention.attenuation=0.0: a number above 0"),
        (["intervention.gain=auto"], "intervention.gain=auto: auto is no finite number"),
        (["intervention.op=gain", "intervention.gain=[1,2]", "intervention.ratio=[0.5,1]"], "two lists in one job"),
        (["intervention.gain=1e38"], "intervention.gain=1e+38: far beyond any activation; type numbers from -10000 to"),
        (["intervention.alpha=1e38"], "intervention.alpha=1e+38: far beyond any activation"),
        (["intervention.alpha=[1,-20000]"], "intervention.alpha=-20000: far beyond"),
        (["intervention.scale=1e5"], "intervention.scale=100000: far beyond"),
        (["intervention.select.alpha=[1e5]"], "intervention.select.alpha=100000: far beyond"),
        (["intervention.select.scale=[1e5]"], "intervention.select.scale=100000: far beyond"),
        (["circuit.push_sizes=[1e5]"], "circuit.push_sizes=100000: far beyond"),
    ],
)
def test_strengths_out_of_range_are_one_line(words: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        mask("model=tiny_llama", *words)
    assert str(refused.value).startswith(said) or said in str(refused.value)


def test_a_scale_per_emotion_has_the_same_range() -> None:
    words = ["intervention=circuit", "emotions.names=[anger,fear]", "intervention.scale={anger: 1, fear: 1e9}"]
    with pytest.raises(UserError) as refused:
        compose(words)
    assert str(refused.value).startswith("intervention.scale.fear=1e+09: far beyond")
