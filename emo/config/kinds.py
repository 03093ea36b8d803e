"""What a job on labelled texts can be, and what fits together (methods 2 and 3)."""

from __future__ import annotations

from emo.config.interventions import kinds
from emo.config.schema import Config
from emo.core.errors import UserError, check_choice

KINDS = kinds("classes")
SELECTORS = ("lape", "lap", "mad", "cas", "direct_effect", "random")  # in emo.find.choosing, a function each
WITHOUT_STATISTICS = ("direct_effect", "random")  # of these: what looks at no statistics of the texts
ADDED = ("induce", "inject")  # what is added to neurons: one arm per scale
CONTROLS = ("random", "other_emotion")  # of control.units: what masks are compared with
DRAWN = ("random",)  # with seeds of their own


def on_classes(config: Config) -> bool:
    """Return whether the job names the class of labelled texts, and generates no replies to scenarios."""
    return config.evaluator.name == "prediction"


def by_statistics(selector: str) -> bool:
    """Return whether a selector, built-in or of a user's own, looks at statistics of the texts."""
    return selector not in WITHOUT_STATISTICS


def check_selector(name: str, target: str | None) -> None:
    """Check that a selector has a built-in name, or ``_target_`` and a name of its own; raises `UserError`."""
    if target is None:
        check_choice("selector.name", name, SELECTORS)
    elif name in SELECTORS:
        raise UserError(
            f"selector._target_={target}: a selector of one's own needs a name of its own, '{name}' is another one; "
            "type selector.name=NAME too"
        )


def injects(config: Config) -> bool:
    """Return whether the activations of rhetorical devices are given to neurons of emotions."""
    return config.intervention.kind == "inject"


def induces(config: Config) -> bool:
    """Return whether a class is called forth: in texts of the others, and in what is written about them."""
    return config.intervention.kind == "induce"


def adaptive(config: Config) -> bool:
    """Return whether strength and share of a mask are found by the feedback loop."""
    return config.intervention.kind == "adaptive_mask"


def check_classes(config: Config) -> None:
    """Check that intervention, dataset and evaluator are all about labelled texts, or none of them is.

    Raises:
        UserError: they do not fit.
    """
    kind, labelled = config.intervention.kind, config.dataset.kind == "labelled"
    if kind in KINDS and not (labelled and on_classes(config)):
        raise UserError(
            f"intervention={kind}: neurons of classes need labelled texts and evaluator=prediction; "
            "type dataset=dialogues evaluator=prediction"
        )
    if labelled != on_classes(config):
        wrong = f"dataset={config.dataset.name}" if labelled else "evaluator=prediction"
        raise UserError(f"{wrong}: labelled texts and evaluator=prediction go together; type intervention=mask")
    if labelled and kind not in (*KINDS, "none"):
        raise UserError(
            f"intervention={kind}: not on labelled texts; type intervention= one of none, {', '.join(KINDS)}"
        )
    given, selector = config.intervention, config.selector
    if kind in KINDS and given.ratio_of == "population":
        shares = given.ratio if isinstance(given.ratio, list) else [given.ratio]
        if kind != "mask" or max(shares) >= 1:
            raise UserError(
                f"intervention={kind} intervention.ratio_of=population intervention.ratio={given.ratio}: shares of all "
                "neurons below 1, of masks only; type intervention=mask intervention.ratio=[0.01,0.02]"
            )
    strength = {"attenuate": "attenuation", "gain": "gain"}.get(given.op)
    if kind == "mask" and strength and isinstance(given.ratio, list) and isinstance(getattr(given, strength), list):
        raise UserError(
            f"intervention.ratio and intervention.{strength}: two lists in one job; type one of them as a sweep: "
            f"-m intervention.{strength}=X,Y"
        )
    if labelled and selector.space == "joint" and selector.tokens == "last":
        raise UserError(
            "selector.space=joint selector.tokens=last: last tokens differ by the question about emotions and devices; "
            "type selector.tokens=content"
        )
    if injects(config) and config.dataset.task != "emotion":
        raise UserError(
            f"intervention=inject dataset={config.dataset.name}: devices are injected into neurons of emotions; "
            "type dataset=dialogues"
        )
