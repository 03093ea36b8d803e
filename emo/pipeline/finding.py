"""Where the neurons of classes come from: statistics of the train texts, kept, and the sets that selectors find.

Emotions and rhetorical devices are selected apart, or (``selector.space=joint``) compete for the same share of the
neurons: then the classes of both sets of texts stand side by side in one table of statistics (methods 3).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from emo.config.kinds import by_statistics
from emo.config.schema import Config, SelectorConfig
from emo.core.sealed import digest
from emo.core.store import Artifact, Store, address
from emo.core.targets import target_digest
from emo.core.types import Site
from emo.data.labelled import ClassSplits, Item, parts
from emo.find.activation_stats import Statistics, collect
from emo.find.choosing import choose_units, selector_of
from emo.find.direct_effect import direct_effects
from emo.find.selectors import Selection
from emo.measure.class_prediction import content_span, question_ids
from emo.model.lm import LM
from emo.model.load import describe, load
from emo.pipeline.stage import CLASSES

CONTENT = "content"
PARTS = 4  # of the train texts; no group is in two
HALVINGS = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))  # the ways to make two halves of four parts


class Finder:
    """Statistics and selected neurons of one set of labelled texts under one model.

    Attributes:
        splits: the texts; only the train texts are looked at.
        beside: of the other set of texts, rhetoric beside emotions and emotions beside rhetoric; None: not needed.
        rival: the same where the classes of both share one space; None: each set has the neurons to itself.
    """

    def __init__(self, config: Config, splits: ClassSplits, beside: Finder | None = None) -> None:
        self.config, self.splits, self.beside = config, splits, beside
        self.listed = config.evaluator.answer == "parsed"  # whether the question lists the names
        self.rival = beside if config.selector.space == "joint" else None
        self.store, self.spec = Store(config.paths.store), describe(config.model, config.device, config.dtype)
        self._selector = selector_of(config.selector, config.selector.name)  # one that is not there is refused here
        self._selected: dict[tuple[str, float], Selection] = {}
        self._read: dict[tuple[Site, str], list[Statistics]] = {}

    @property
    def lm(self) -> LM:
        """The model; its weights are read on first use, once per process."""
        return load(self.spec)

    @cached_property
    def model(self) -> dict[str, Any]:
        """What belongs to the model in an address."""
        return dict(self.spec.identity)

    @cached_property
    def texts(self) -> list[Any]:
        """What belongs to the questions about train texts in an address: digest, classes, task, list of names."""
        s = self.splits
        return [digest([list(item) for item in s.train]), list(s.classes), s.task, self.listed]

    @cached_property
    def key(self) -> dict[str, Any]:
        """What decides which neurons are selected."""
        how = described(self.config.selector)
        if how["name"] != "lape":
            how |= {"filter": None, "assignment": None}
        if not by_statistics(how["name"]):
            how |= {"site": None, "tokens": None}
        drawn = self.config.seed if how["name"] == "random" else None
        return how | {"texts": self.texts, "rival": self.rival and self.rival.texts, "seed": drawn}

    def questions(self, items: Sequence[Item]) -> list[list[int]]:
        """Return the token ids of the question about every text."""
        return question_ids(self.lm, items, self.splits.classes, self.splits.task, self.listed)

    def labels(self, items: Sequence[Item]) -> list[int]:
        """Return the class of every text, as its place among the names."""
        return [self.splits.classes.index(item.label) for item in items]

    def _spans(self, ids: Sequence[Sequence[int]], tokens: str) -> list[tuple[int, int]]:
        if tokens != CONTENT:
            return [(len(own) - 1, len(own)) for own in ids]
        before, behind = content_span(self.lm, self.splits.classes, self.splits.task, self.listed)
        return [(before, len(own) - behind) for own in ids]

    def parts(self, site: Site, tokens: str) -> list[Statistics]:
        """Return the statistics of `PARTS` parts of the train texts."""
        if (site, tokens) not in self._read:
            self._read[site, tokens] = self._parts(site, tokens)
        return self._read[site, tokens]

    def _parts(self, site: Site, tokens: str) -> list[Statistics]:
        def compute() -> Artifact:
            ids, labels = self.questions(self.splits.train), self.labels(self.splits.train)
            spans, size = self._spans(ids, tokens), self.config.batch_size
            tensors: dict[str, Tensor] = {}
            for part, kept in enumerate(parts(self.splits.train, PARTS)):
                own, places, of = [ids[i] for i in kept], [spans[i] for i in kept], [labels[i] for i in kept]
                told = f"{self.splits.task}: {site}, {tokens} tokens, part {part + 1} of {PARTS}"
                found = collect(self.lm, own, places, of, len(self.splits.classes), site, size, told)
                tensors |= {f"{part}/{key}": x.contiguous() for key, x in found.to_tensors().items()}
            return Artifact(tensors)

        asked = {"texts": self.texts, "site": site, "tokens": tokens, "parts": PARTS}
        key = address("statistics", CLASSES["statistics"].version, model=self.model, **asked)
        made = self.store.get_or_compute("statistics", key, {"site": site, "tokens": tokens}, compute).tensors
        return [
            Statistics.from_tensors({k.partition("/")[2]: x for k, x in made.items() if k.startswith(f"{part}/")})
            for part in range(PARTS)
        ]

    def _looked_at(self, kept: Sequence[int] = range(PARTS)) -> Statistics:
        """Return what the selector looks at, of some parts; in a joint space the own classes come first."""
        how = self.config.selector
        read = [self] if self.rival is None else [self, self.rival]
        own, *others = (total([one.parts(Site(how.site), how.tokens)[i] for i in kept]) for one in read)
        return own.beside(others[0]) if others else own

    @cached_property
    def means(self) -> Statistics:
        """What masks put in place of activations: of neurons, over content tokens."""
        return total(self.parts(Site.NEURON, CONTENT))

    @cached_property
    def direct(self) -> Tensor:
        """Direct effects (C, L, F) of neurons on the directions of the classes."""

        def compute() -> Artifact:
            ids, labels = self.questions(self.splits.train), self.labels(self.splits.train)
            classes = len(self.splits.classes)
            return Artifact({"direct": direct_effects(self.lm, ids, labels, classes, self.config.batch_size)})

        key = address("direct", CLASSES["direct"].version, model=self.model, texts=self.texts)
        return self.store.get_or_compute("direct", key, {}, compute).tensors["direct"]

    def selected(self, name: str, ratio: float | None = None) -> Selection:
        """Return the sets that a selector finds with this job's settings; ``ratio``: another share than theirs."""
        return self._own(self._all(name, ratio or self.config.selector.ratio))

    def others(self, name: str) -> Selection:
        """Return what a selector finds for the classes of the texts beside these."""
        assert self.beside is not None
        if self.rival is None:
            return self.beside.selected(name)
        found = self._all(name, self.config.selector.ratio)
        return found._replace(sets=found.sets[len(self.splits.classes) :])

    def _own(self, found: Selection) -> Selection:
        return found._replace(sets=found.sets[: len(self.splits.classes)])

    def _all(self, name: str, ratio: float) -> Selection:
        if (name, ratio) not in self._selected:  # every condition asks for it
            self._selected[name, ratio] = self._choose(self._looked_at(), name, ratio)
        return self._selected[name, ratio]

    def _choose(self, stats: Statistics, name: str, ratio: float) -> Selection:
        how = self.config.selector
        selector = self._selector if name == how.name else selector_of(how, name)
        settings = _SETTINGS[name](self) if name in _SETTINGS else how.settings
        return choose_units(selector, stats, ratio, name, settings)

    def _scores(self) -> Tensor:
        """Return the direct effects of all classes that the selector looks at."""
        return self.direct if self.rival is None else torch.cat([self.direct, self.rival.direct])

    def halves(self, name: str) -> list[tuple[Selection, Selection]]:
        """Return the sets of the two halves of the train texts, for each of the three ways to halve them."""
        ratio = self.config.selector.ratio

        def half(kept: Sequence[int]) -> Selection:
            return self._own(self._choose(self._looked_at(kept), name, ratio))

        return [(half(a), half(b)) for a, b in HALVINGS]


# What a built-in selector is called with beyond the statistics and the share.
_SETTINGS: dict[str, Callable[[Finder], dict[str, Any]]] = {
    **dict.fromkeys(("lap", "mad", "cas"), lambda _: {}),
    "lape": lambda f: {"filter": f.config.selector.filter, "assignment": f.config.selector.assignment},
    "direct_effect": lambda f: {"scores": f._scores()},
    "random": lambda f: {"seed": f.config.seed},
}


def described(how: SelectorConfig) -> dict[str, Any]:
    """Return the section selector as it stands in addresses: of one's own with its file's digest, else without it."""
    given = asdict(how)
    if how._target_ is None:
        return {key: value for key, value in given.items() if key not in ("_target_", "settings")}
    return given | {"digest": target_digest(how._target_)}


def total(statistics: Sequence[Statistics]) -> Statistics:
    """Return the statistics of the texts of all."""
    first, *rest = statistics
    for other in rest:
        first = first.plus(other)
    return first
