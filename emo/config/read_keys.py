"""Which keys a job reads: one table, for the addresses of results and for the line that refuses a key without effect.

A key that the chosen intervention, evaluator, selector or tracker does not read changes nothing. So it is no part of a
result's address (`Addresses.result_address`), and typed on the command line it is refused by name (`refuse_unread`):
a user who types a strength that nothing reads believes in a number that was never used. Keys that files of ``conf/``
bring along are not typed, and are let be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from emo.config.choices import BUILDS, BUNDLES
from emo.config.error_text import GROUPS, known_keys, shown
from emo.config.interventions import (
    alpha_divergence,
    kinds,
    on_circuit,
    on_units,
    scale_divergence,
    scale_tuned,
    steers,
)
from emo.config.kinds import ADDED, by_statistics, induces, injects, on_classes
from emo.config.kinds import KINDS as CLASS_KINDS
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.core.targets import load_target

# Keys of the section circuit.
IMPORTANCE_KEYS = ("push_sizes", "sigma", "importance_at")  # what importance depends on
ASSEMBLY_KEYS = ("budget", "split", "floor", "cap", "allocation")  # how units are chosen
# Of the section evaluator: how a judge is asked, which changes no answer.
ASKING_KEYS = (
    *("structured", "concurrency", "timeout_s", "retries", "price_input", "price_output"),
    *("requests_per_minute", "tokens_per_minute", "batch"),
)
# How much is run, not what: one line of them serves jobs of every kind, and where nothing is drawn or written they say
# nothing false.
AMOUNTS = ("control.seeds", "control.score_seeds", "generation.max_new_tokens")
# Of the section dataset: of labelled texts.
LABELLED_KEYS = (*("kind", "text", "label", "literal", "group", "labels", "task", "delimiter", "header", "multilabel"),)

Test = Callable[[Config], bool]


class Rule(NamedTuple):
    """Keys that only some jobs read.

    Attributes:
        keys: dotted names; a section stands for all of its keys.
        read: whether a job reads them.
        where: who does, for the user.
        by: the choice that decides, ``GROUP`` of ``GROUP=OPTION`` as it is typed.
        kept: a job that does not read them has them in its result's address all the same: stored results keep theirs.
    """

    keys: tuple[str, ...]
    read: Test
    where: str
    by: str = "intervention"
    kept: Test = lambda _: False


def scenarios(c: Config) -> bool:
    """Return whether the job is about scenarios, not about the classes of labelled texts."""
    return not on_classes(c)


def bundled(c: Config) -> bool:
    """Return whether the test split is a set of its own, so that only dev is taken from the other one."""
    d = c.dataset
    return scenarios(c) and (d.test_path is not None or (d.path is None and d.name in BUNDLES))


def kind_in(*kinds: str) -> Test:
    """Return the test for some kinds of interventions."""
    return lambda c: c.intervention.kind in kinds


def steered(c: Config) -> bool:
    """Return whether an arm adds directions to the residual stream."""
    return scenarios(c) and steers(c)


def chosen(c: Config) -> bool:
    """Return whether something is chosen on the dev split."""
    return strength_chosen(c) or blocks_chosen(c) or scale_tuned(c)


def at_divergence(c: Config) -> bool:
    """Return whether a strength is found at which the edited model diverges by so many nats (kl:1.0)."""
    return scenarios(c) and (alpha_divergence(c) is not None or scale_divergence(c) is not None)


def strength_chosen(c: Config) -> bool:
    """Return whether alpha is chosen on dev."""
    return steered(c) and c.intervention.alpha == "auto"


def blocks_chosen(c: Config) -> bool:
    """Return whether the blocks of steering are chosen on dev."""
    return steered(c) and c.intervention.layers == "auto"


def replies(c: Config) -> bool:
    """Return whether anything is generated."""
    if on_classes(c):
        return induces(c)
    extracted = c.directions.tokens == "reply_mean" or c.elicitation.accept == "judged"
    return c.evaluator.name != "projection" or extracted or chosen(c) or at_divergence(c)


def of_replies(c: Config) -> bool:
    """Return whether replies to test scenarios are measured."""
    return scenarios(c) and c.evaluator.name != "projection"


def _classified(c: Config) -> bool:
    """Return whether the offline classifier labels replies: for the numbers, or for choices on dev."""
    asked = c.elicitation.judge == "classifier" and (chosen(c) or c.elicitation.accept == "judged")
    return scenarios(c) and (c.evaluator.name == "classifier" or asked)


def assembled(c: Config) -> bool:
    """Return whether a circuit is found from the job's own data."""
    return on_circuit(c) and c.circuit.path is None


def _random_circuit(c: Config) -> bool:
    return "random_circuit" in c.control.circuits


def _op(c: Config, op: str) -> bool:
    return c.intervention.kind == "mask" and c.intervention.op == op


def own(c: Config) -> bool:
    """Return whether the intervention is a user's own: then no rule knows which keys it reads."""
    return c.intervention._target_ is not None


def of_judge(c: Config) -> bool:
    """Return whether a language model judges."""
    return c.evaluator.name == "openai_judge"


ANY: Test = lambda _: True  # noqa: E731
ENHANCE, ADD_CIRCUIT = kinds("neurons", "heads", op="add"), kinds("circuit", op="add")
STEER_CONTROLLED = ("steer", "prompt_steer")
_unedited, _unit, _circuit = kind_in(*kinds("nothing")), on_units, on_circuit
_plain: Test = lambda c: not _unit(c) and not _circuit(c)  # noqa: E731

RULES: tuple[Rule, ...] = (
    Rule(("runs",), lambda c: c.task != "run",
         "task=status, summarize, report, judge, compare, agreement, label_sheet, gc, verify, charts", "task"),
    Rule(("agreement",), lambda c: c.task in ("agreement", "label_sheet"), "task=agreement, label_sheet", "task"),
    Rule(("gc.delete", "gc.hours"), lambda c: c.task == "gc", "task=gc", "task"),
    Rule(("build",), lambda c: c.task in BUILDS, "task=build_sev, build_dialogues, build_stories", "task"),
    Rule(("model.revision",), lambda c: c.model.source == "hub", "models of the hub", "model"),
    Rule(("model.path",), lambda c: c.model.source == "local", "model=local", "model"),
    Rule(("model.id",), lambda c: c.model.source != "local", "models of the hub", "model", ANY),
    # data
    Rule(("dataset.themes", "dataset.valences", "dataset.leave_out", "dataset.test_path"), scenarios, "scenarios",
         "dataset"),
    Rule(("dataset.dev_fraction",), bundled, "sets with a test set of their own: dataset=sev, dataset.test_path=FILE",
         "dataset", ANY),
    Rule(("emotions.names",), lambda c: scenarios(c) or c.dataset.task == "emotion" or c.selector.space == "joint",
         "scenarios, and texts labelled with emotions", "dataset"),
    Rule(tuple(f"dataset.{key}" for key in LABELLED_KEYS if key != "kind"),
         lambda c: c.dataset.kind == "labelled", "labelled texts", "dataset"),
    Rule(("dataset.delimiter", "dataset.header"), lambda c: c.dataset._target_ is None,
         "tables that no dataset._target_ reads", "dataset"),
    # asking
    Rule(("emotions.words", "elicitation", "directions"), scenarios, "scenarios", "dataset"),
    Rule(("emotions.descriptions",), lambda c: of_judge(c) and "blind" in c.evaluator.questions,
         "the blind question of evaluator=openai_judge", "evaluator", ANY),
    Rule(("generation.max_new_tokens",), replies, "jobs that generate replies", "evaluator", ANY),
    Rule(("generation.decoding",), lambda c: scenarios(c) and replies(c), "jobs that generate replies", "evaluator",
         ANY),
    # units
    Rule(("attribution",), lambda c: _unit(c) or _circuit(c), "interventions on neurons, heads or circuits"),
    Rule(("attribution.score_at",), lambda c: kind_in(*kinds("heads"))(c) or assembled(c),
         "interventions on heads, and circuits found by the job", kept=lambda c: _unit(c) or _circuit(c)),
    Rule(("attribution.check",), _unit, "interventions on neurons or heads"),
    # circuits
    Rule(("against",), assembled, "circuits found by the job"),
    Rule(("circuit.path", "circuit.allow_other_weights"), lambda c: _circuit(c) or on_classes(c),
         "circuits, and masks that are compared with one"),
    Rule(("circuit.allow_other_weights",), lambda c: c.circuit.path is not None, "circuit.path=FOLDER"),
    Rule(("circuit.delta_baseline",),
         lambda c: kind_in(*ENHANCE)(c) or (kind_in(*ADD_CIRCUIT)(c) and (assembled(c) or _random_circuit(c))),
         "what adds difference vectors, from the job's own data",
         kept=lambda c: _unit(c) or (_circuit(c) and (assembled(c) or _random_circuit(c)))),
    Rule((*(f"circuit.{key}" for key in (*ASSEMBLY_KEYS, *IMPORTANCE_KEYS, "layers", "reference_layers")),),
         assembled, "circuits found by the job"),
    Rule(("circuit.dose",), kind_in(*ADD_CIRCUIT), "circuits that are added"),
    Rule(("circuit.head_tokens",), _circuit, "circuits"),
    # interventions
    Rule(("intervention._target_", "intervention.settings"), own, "interventions of one's own (_target_)"),
    Rule(("intervention.k", "intervention.pool"), _unit, "interventions on neurons or heads"),
    Rule(("intervention.scale",), kind_in(*ENHANCE, *ADD_CIRCUIT, *ADDED),
         "what is added to units: enhance_neurons, enhance_heads, circuits, induce, inject"),
    Rule(("intervention.alpha", "intervention.dose"), steered, "steering, also beside a circuit", kept=_unedited),
    Rule(("intervention.layers",), lambda c: steered(c) or _unit(c) or kind_in(*CLASS_KINDS)(c),
         "steering, neurons, heads and masks", kept=_unedited),
    Rule(("intervention.tokens", "intervention.decay"), lambda c: scenarios(c) and not _unedited(c),
         "edits of the model on scenarios", kept=ANY),
    Rule(("intervention.op",), kind_in("mask"), "masks"),
    Rule(("intervention.ratio", "intervention.ratio_of"), kind_in("mask"), "masks"),
    Rule(("intervention.attenuate_by",), lambda c: kind_in("adaptive_mask")(c) or _op(c, "attenuate"),
         "attenuation: intervention.op=attenuate, adaptive_mask"),
    Rule(("intervention.attenuation",), lambda c: _op(c, "attenuate"), "intervention=mask intervention.op=attenuate"),
    Rule(("intervention.gain",), lambda c: _op(c, "gain"), "intervention=mask intervention.op=gain"),
    Rule(("intervention.select.alpha",), strength_chosen, "intervention.alpha=auto of steering",
         kept=lambda c: _plain(c) or steered(c)),
    Rule(("intervention.select.layers",), blocks_chosen, "intervention.layers=auto of steering",
         kept=lambda c: _plain(c) or steered(c)),
    Rule(("intervention.select.scale",), scale_tuned, "intervention.scale=auto of circuits",
         kept=kind_in(*ADD_CIRCUIT)),
    Rule(("intervention.select.per", "intervention.select.prompts"), lambda c: chosen(c) or at_divergence(c),
         "strengths that are chosen (auto, kl:NATS)", kept=lambda c: _plain(c) or kind_in(*ADD_CIRCUIT)(c)),
    Rule(tuple(f"intervention.select.{key}" for key in ("max_degenerate", "max_ppl_ratio", "extend")),
         chosen, "strengths that are chosen (auto)", kept=lambda c: _plain(c) or kind_in(*ADD_CIRCUIT)(c)),
    # controls
    Rule(("control.arms",), kind_in(*STEER_CONTROLLED), "steering", kept=_plain),
    Rule(("control.units",), kind_in(*kinds("neurons", "heads", "classes")),
         "interventions on neurons or heads, and masks"),
    Rule(("control.circuits",), _circuit, "circuits"),
    Rule(("control.seeds",), lambda c: not _unedited(c), "interventions with controls", kept=ANY),
    Rule(("control.score_seeds",), lambda c: scenarios(c) and not _unedited(c), "projections", kept=ANY),
    # classes
    Rule(("selector",), on_classes, "masks", "dataset"),
    Rule(("selector.filter", "selector.assignment"),
         lambda c: c.selector.name == "lape" or injects(c),
         "selector=lape", "selector"),
    Rule(("selector.site", "selector.tokens"),
         lambda c: by_statistics(c.selector.name) or injects(c),
         "selectors by statistics: lape, lap, mad, cas", "selector"),
    Rule(("selector.settings",), lambda c: c.selector._target_ is not None,
         "a selector of one's own, selector._target_=MODULE.NAME", "selector"),
    Rule(("adaptive",), kind_in("adaptive_mask"), "intervention=adaptive_mask"),
    # evaluators
    Rule(("evaluator.answer",), on_classes, "evaluator=prediction", "evaluator"),
    Rule(("evaluator.score",), lambda c: on_classes(c) and c.evaluator.answer == "choice",
         "evaluator=prediction evaluator.answer=choice", "evaluator"),
    Rule(("evaluator.model",), lambda c: of_judge(c) or c.evaluator.name in ("hf_classifier", "llm_judge"),
         "evaluator=openai_judge, hf_classifier, llm_judge", "evaluator", ANY),
    Rule(("evaluator.encoder",), _classified, "evaluator=classifier", "evaluator"),
    Rule(("evaluator.labels",), lambda c: c.evaluator.name == "hf_classifier", "evaluator=hf_classifier", "evaluator",
         ANY),
    Rule(("evaluator._target_", "evaluator.settings"), lambda c: c.evaluator._target_ is not None,
         "an evaluator of your own: evaluator._target_=MODULE.Class", "evaluator"),
    Rule(("evaluator.metrics",), of_replies, "evaluators of replies", "evaluator"),
    Rule(("evaluator.base_url", "evaluator.questions", *(f"evaluator.{key}" for key in ASKING_KEYS)), of_judge,
         "evaluator=openai_judge", "evaluator", ANY),
    Rule(("evaluator.kl_tokens",), of_replies, "evaluators of replies", "evaluator", ANY),
    Rule(("evaluator.min_distinct3", "evaluator.min_distinct4", "evaluator.max_nonwords"),
         lambda c: of_replies(c) or (scenarios(c) and chosen(c)), "evaluators of replies",
         "evaluator", ANY),
    # trackers
    Rule(tuple(f"tracker.{key}" for key in ("mode", "project", "entity", "group", "tags")),
         lambda c: c.tracker.name == "wandb", "tracker=wandb", "tracker"),
)  # fmt: skip


def expand(key: str) -> list[str]:
    """Return the keys of the schema that a typed one stands for: a section's, one, or the one that it is a part of."""
    keys = known_keys()
    inside = [name for name in keys if name == key or name.startswith(f"{key}.")]
    return inside or [name for name in keys if key.startswith(f"{name}.")]


_EXPANDED = tuple((rule, frozenset(name for key in rule.keys for name in expand(key))) for rule in RULES)


def unread(config: Config) -> dict[str, Rule]:
    """Return the keys that a job does not read, and by which rule."""
    return {key: rule for rule, keys in reversed(_EXPANDED) for key in keys if not _read(rule, key, config)}


def without_effect(config: Config) -> set[str]:
    """Return the unread keys that are no part of the address of a job's result."""
    return {key for rule, keys in _EXPANDED if not rule.kept(config) for key in keys if not _read(rule, key, config)}


def _read(rule: Rule, key: str, config: Config) -> bool:
    """Return whether a job reads a key of a rule; an intervention of a user's own says itself what it ``reads``."""
    target = config.intervention._target_
    if target is None or rule.by != "intervention" or rule.read is own:
        return rule.read(config)
    return key in getattr(load_target(target, "intervention._target_"), "reads", ())


def refuse_unread(typed: Sequence[str], configs: Iterable[Config]) -> None:
    """Refuse typed keys that no job reads.

    Args:
        typed: words of the command line, ``KEY=VALUE`` or ``GROUP=OPTION``; what files bring along is not among them.
        configs: the jobs that they are about; one that reads a key is enough.

    Raises:
        UserError: names the keys, who reads them, and what may be typed instead.
    """
    jobs = [(config, unread(config)) for config in configs if config.task in ("run", "plan")]
    words = [word for word in typed if not word.startswith(("hydra", "~"))]
    wrong = [word for word in words if jobs and not any(_reads(word, rules) for _, rules in jobs)]
    wrong = [word for word in wrong if _key(word) not in AMOUNTS]
    if not wrong:
        return
    word, (_, rules) = wrong[0], jobs[0]
    key = _key(word)
    rule = next(rules[name] for name in expand(key) if name in rules)
    choices = ", ".join(dict.fromkeys(_choice(rule.by, config) for config, _ in jobs))
    section = key.partition(".")[0]
    left = [name for name in expand(section) if any(name not in own for _, own in jobs)]
    short = ", ".join(name.partition(".")[2] for name in left if "." in name)
    also = f" ({', '.join(map(_key, wrong[1:]))} neither)" if wrong[1:] else ""
    rest = f"; of {section} it reads {short}" if short else f"; it reads nothing of {section}" if "." in key else ""
    raise UserError(f"{shown(word)}: not read by {choices}, only by {rule.where}{also}{rest}; leave it out")


def _reads(word: str, rules: dict[str, Rule]) -> bool:
    """Return whether a job reads what a word sets; a group that is switched off reads nothing and harms nobody."""
    key, value = _key(word), word.partition("=")[2]
    keys = expand(key)
    return not keys or (key in GROUPS and value == "none") or any(name not in rules for name in keys)


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+").partition("@")[0].replace("/", ".")


def _choice(by: str, config: Config) -> str:
    """Return a choice as it is typed."""
    value: Any = getattr(config, by)
    return f"{by}={value if isinstance(value, str) else value.kind if by == 'intervention' else value.name}"
