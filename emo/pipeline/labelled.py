"""One job on the classes of labelled texts: its stages, each kept under the address of all that it depends on.

    statistics (train texts) -> selection -> masks -> predictions (test texts)
                                  adaptive masks: found on the dev texts, frozen, tested once

Nothing of the dev texts or the test texts is used for the selection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from emo.config.kinds import induces, injects
from emo.config.layers import parse_layers
from emo.config.renamed import in_addresses
from emo.config.schema import Config
from emo.core.partial import Done, Owner, computing, fill
from emo.core.sealed import digest
from emo.core.store import Artifact, Store, address
from emo.data.labelled import BESIDE, LITERAL, ClassSplits, Item, load_items
from emo.edit.adaptive import Adaptive, adapt
from emo.edit.adaptive import Path as Loop
from emo.edit.class_arms import ClassArm, arms_of, injection, mask_of, units_of
from emo.edit.masks import Mask, plan_masks
from emo.find.circuit import Circuit, Shape
from emo.find.circuit_similarity import find_circuit
from emo.find.selectors import Selection
from emo.measure.asking import asked_scores, named
from emo.measure.class_prediction import Asked
from emo.model.fingerprint import fingerprint
from emo.model.generate import generate
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.load import describe, load
from emo.model.machine import made_by
from emo.model.passes import NO_EDIT, Row
from emo.model.prompts import user_ids
from emo.model.size import count_parameters
from emo.pipeline.finding import Finder, described
from emo.pipeline.manifests import tell
from emo.pipeline.stage import CLASSES, OF_CLASS_RESULTS, versions

CALIBRATED = "calibrated"
REPLY = "Reply to this in one sentence."


class ClassJob:
    """The stages of one configuration."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = Store(config.paths.store)
        self.spec = describe(config.model, config.device, config.dtype)
        self.store.made_by = made_by(self.spec)
        wanted = config.emotions.names if config.dataset.task == "emotion" else None
        self.splits: ClassSplits = load_items(config.dataset, wanted, config.seed)
        self.names = list(self.splits.classes)
        texts = dict(zip(("train", "dev", "test"), map(len, self.splits[:3]), strict=True))
        tell(self.store, config, self.spec, self.names, {"texts": texts})
        given = config.intervention.layers
        self.layers = parse_layers("all" if given == "auto" else given, self.spec.n_layers)
        self.beside: Finder | None = None
        if injects(config) or config.selector.space == "joint":
            other = replace(BESIDE[self.splits.task], limit=config.dataset.limit)
            named = config.emotions.names if other.task == "emotion" else None
            self.beside = Finder(config, load_items(other, named, config.seed))
        self.finder = Finder(config, self.splits, self.beside)
        self.finder.store = self.store  # one list of what the job has read
        if self.beside is not None:
            self.beside.store = self.store
        path = config.circuit.path
        self.circuit = None if path is None else Circuit.load(find_circuit(path, "circuit.path"))

    def check(self) -> None:
        """Check what the job needs from this machine beyond the model; raises `UserError`."""
        if self.circuit is not None:
            allowed = self.config.circuit.allow_other_weights
            self.circuit.check(Shape.of(self.lm), fingerprint(self.lm), allowed)

    @property
    def lm(self) -> LM:
        """The model; its weights are read on first use, once per process."""
        return load(self.spec)

    @property
    def parameters(self) -> int:
        """Number of the model's weights; none is read for it."""
        return count_parameters(self.spec)

    def address(self, stage: str, **inputs: object) -> str:
        """Return the address of a stage of this model, these classes and this question."""
        asked = {"classes": self.names, "task": self.splits.task}
        return address(stage, CLASSES[stage].version, model=self.finder.model, asked=asked, **inputs)

    def _arm_key(self, arm: ClassArm) -> dict[str, Any]:
        c = self.config
        edited: dict[str, Any] = {}
        if arm.pick != "none":
            given = {key: getattr(c.intervention, key) for key in ("ratio_of", "attenuate_by")}
            edited = {"selection": self.finder.key, "layers": self.layers, **in_addresses("intervention", given)}
            edited |= {"seed": c.seed if arm.pick == "random" else None}
            edited |= {"adaptive": asdict(c.adaptive)} if arm.adaptive else {}
            if arm.adaptive:
                edited["dev"] = digest([list(item) for item in self.splits.dev])
            if self.beside is not None:
                edited["beside"] = self.beside.texts
            if arm.device is not None:
                edited["devices"] = described(replace(c.selector, name="lape", _target_=None))
        prior = self.finder.texts if self._calibrated else None
        return {"arm": arm.key(), "answer": [c.evaluator.answer, self._score], "prior": prior} | edited

    @property
    def _live(self) -> bool:
        """Whether attenuation goes by the activation at hand, not by its mean."""
        return self.config.intervention.attenuate_by == "live"

    @property
    def _score(self) -> str | None:
        """How log-probabilities are scored; None: what is written is read."""
        return self.config.evaluator.score if self.config.evaluator.answer == "choice" else None

    @property
    def _calibrated(self) -> bool:
        return self._score == CALIBRATED

    @cached_property
    def result_address(self) -> str:
        """The address of the job's result: what decides whether it is already done."""
        c, s = self.config, self.splits
        parts = [digest([list(item) for item in part]) for part in (s.train, s.dev, s.test)]
        return self.address(
            "result",
            parts=parts,
            aside=[s.left_out, s.matched, s.several, s.joined],  # counted in the result
            kind=c.intervention.kind,
            arms=[self._arm_key(arm) | {"name": arm.name} for arm in self.arms],
            selection=[self.finder.key, described(c.selector)],  # other selectors' sets are compared with these
            circuit=None if self.circuit is None else self.circuit.digest(),
            written=c.generation.max_new_tokens if induces(c) else None,
            intervals=[c.evaluator.bootstrap, c.seed],
            versions=versions(CLASSES[name] for name in OF_CLASS_RESULTS),
        )

    def selection(self, arm: ClassArm) -> Selection:
        """Return the sets that an arm takes its share of; of the population: that share, selected anew."""
        anew = self.config.intervention.ratio_of == "population"
        return self.finder.selected(self.config.selector.name, arm.ratio if anew else None)

    @cached_property
    def devices(self) -> dict[str, Callable[..., Tensor]]:
        """Of every rhetorical device, what it gives to units of an emotion; empty for other jobs."""
        if self.beside is None or not injects(self.config):
            return {}
        found, means = self.finder.others("lape"), self.beside.means
        classes = self.beside.splits.classes
        return {name: injection(found.sets[i], means.mean(i)) for i, name in enumerate(classes) if name != LITERAL}

    @cached_property
    def arms(self) -> list[ClassArm]:
        """The arms of this job."""
        classes = () if self.beside is None else self.beside.splits.classes
        return arms_of(self.config, [name for name in classes if name != LITERAL])

    @cached_property
    def predictions(self) -> dict[str, Artifact]:
        """Per arm, tensor scores (conditions, n, C) of the names for every test text; a row per condition.

        Rows: draw, class, number of units, and for adaptive masks the rounds of the loop and whether it got there.
        """
        named = {arm.name: arm for arm in self.arms}
        items = digest([list(item) for item in self.splits.test])
        keys = {name: self.address("predictions", items=items, **self._arm_key(arm)) for name, arm in named.items()}
        configs = {name: {"arm": asdict(arm)} for name, arm in named.items()}

        def compute(missing: list[str]) -> dict[str, Artifact]:
            return {name: self._predict(named[name]) for name in missing}

        return self.store.get_or_compute_many("predictions", keys, configs, compute)

    def _predict(self, arm: ClassArm) -> Artifact:
        with computing(arm.name):
            return self._predicted(arm)

    def _predicted(self, arm: ClassArm) -> Artifact:
        masks: list[tuple[Mask, int]] = []
        rows: list[dict[str, Any]] = []
        for seed, target in arm.conditions(len(self.names)) if arm.pick != "none" else []:
            assert target is not None
            mask, row = self._mask(arm, seed, target), {"seed": seed, "class": self.names[target]}
            if arm.adaptive:
                mask, path = self._adapted(arm, mask, target)
                found = {"base": float(self.dev_base[target]), "rounds": [r._asdict() for r in path.rounds]}
                row |= found | {"reached": path.reached}
            masks.append((mask, target))
            rows.append(row | {"units": len(mask.units.unit)})
        return Artifact({"scores": self._scores(self.splits.test, masks, f"test: {arm.name}")}, rows)

    def _mask(self, arm: ClassArm, seed: int, target: int) -> Mask:
        shape = (self.spec.n_layers, self.lm.f)
        of_set = self.config.intervention.ratio_of == "set"
        share = arm if of_set else replace(arm, ratio=1.0)
        units = units_of(share, self.selection(arm), target, seed, self.layers, shape, self.config.seed)
        values = None if arm.device is None else self.devices[arm.device]
        return mask_of(arm, units, self._live, values)

    @cached_property
    def dev_base(self) -> Tensor:
        """Dev accuracy (C,) of the unedited model, in points."""
        return self._accuracy(self.splits.dev, None, "dev")

    def _accuracy(self, items: Sequence[Item], mask: tuple[Mask, int] | None, label: str) -> Tensor:
        scores = self._scores(items, [] if mask is None else [mask], label)[0]
        right = torch.tensor(self.finder.labels(items))
        hit = (named(scores) == right).double()
        return torch.stack([100 * hit[right == c].mean() for c in range(len(self.names))])

    def _adapted(self, arm: ClassArm, start: Mask, target: int) -> tuple[Mask, Loop]:
        """Run the loop of one condition on the dev texts; returns the frozen mask, and how it got there."""
        live, label = self._live, f"dev: {arm.name}, {self.names[target]}"

        def measure(mask: Mask) -> Tensor:
            return self._accuracy(self.splits.dev, (replace(mask, live=live), target), label)

        how = Adaptive(**asdict(self.config.adaptive))
        mask, path = adapt(start.units, self.finder.means, target, how, measure, self.dev_base)
        return replace(mask, live=live), path

    def _edits(self, masks: Sequence[tuple[Mask, int]]) -> list[Edit]:
        """Compile masks; without any, no statistics are read."""
        own, classes = [mask for mask, _ in masks], [target for _, target in masks]
        return plan_masks(own, self.finder.means, classes, self.spec.n_layers) if masks else []

    def _scores(self, items: Sequence[Item], masks: Sequence[tuple[Mask, int]], label: str) -> Tensor:
        """Return scores (conditions, n, C) of all names; without masks one condition, unedited."""
        return self._asked(items, masks, label) - (self.prior if self._calibrated else 0)

    @cached_property
    def prior(self) -> Tensor:
        """Scores (C,) of the names whatever the text: means over each class's train texts, unedited, then over classes.

        Without them a small model gives nearly every text the same name (Holtzman et al. 2021; Zhao et al. 2021).
        """

        def compute() -> Artifact:
            train = self.splits.train
            scores, right = self._asked(train, [], "train: scores of the names")[0], self.finder.labels(train)
            per = [scores[torch.tensor(right) == c].double().mean(0) for c in range(len(self.names))]
            return Artifact({"prior": torch.stack(per).mean(0).float()})

        key = self.address("prior", texts=self.finder.texts)
        return self.store.get_or_compute("prior", key, {}, compute).tensors["prior"]

    def _asked(self, items: Sequence[Item], masks: Sequence[tuple[Mask, int]], label: str) -> Tensor:
        prompts = self.finder.questions(items)
        conditions = range(len(masks)) if masks else [-1]
        rows = [Asked(i, c) for c in conditions for i in range(len(prompts))]
        edits = self._edits(masks)
        c, lm = self.config, self.lm

        def compute(left: list[int], done: Done) -> None:
            own, e = [rows[i] for i in left], c.evaluator
            asked_scores(lm, prompts, own, edits, self.names, e.answer, e.score, c.batch_size, label, done)

        texts, edited = [digest(ids) for ids in prompts], [digest([target, mask.key()]) for mask, target in masks]
        owners: list[list[Owner]] = [[(None, [texts[i], edited[c] if masks else None])] for i, c in rows]
        found = fill("answers", label, "answers", owners, compute)
        return (torch.stack(found) if found else torch.zeros(0)).view(len(conditions), len(prompts), len(self.names))

    @cached_property
    def written(self) -> dict[str, Artifact]:
        """Per arm of an induction, a row per reply to a text of another class, and what the model calls the reply.

        Replies are written under the edit and named by the unedited model; empty for other jobs.
        """
        if not induces(self.config):
            return {}
        named = {arm.name: arm for arm in self.arms}
        items, limit = digest([list(item) for item in self.splits.test]), self.config.generation.max_new_tokens
        keys = {
            name: self.address("written", items=items, max_new_tokens=limit, **self._arm_key(arm))
            for name, arm in named.items()
        }
        configs = {name: {"arm": asdict(arm)} for name, arm in named.items()}
        return self.store.get_or_compute_many(
            "written", keys, configs, lambda missing: {name: self._write(named[name]) for name in missing}
        )

    def _write(self, arm: ClassArm) -> Artifact:
        with computing(arm.name):
            return self._replied(arm)

    def _replied(self, arm: ClassArm) -> Artifact:
        test, c = self.splits.test, self.config
        conditions = arm.conditions(len(self.names))
        masks = (
            [] if arm.pick == "none" else [(self._mask(arm, seed, int(t or 0)), int(t or 0)) for seed, t in conditions]
        )
        edits = self._edits(masks)
        prompts = user_ids(self.lm, [f"{REPLY}\n\n{item.text}" for item in test])
        asked = [
            (k, i)
            for k, (_, t) in enumerate(conditions)
            for i, item in enumerate(test)
            if t is None or item.label != self.names[t]
        ]
        rows = [Row(i, k if masks else NO_EDIT) for k, i in asked]
        limit, label = c.generation.max_new_tokens, f"test: {arm.name}, replies"

        def compute(left: list[int], done: Done) -> None:
            exploded, own = set[int](), [rows[i] for i in left]

            def finished(k: int, ids: list[int]) -> None:
                done(k, {"ids": list(ids), "exploded": k in exploded})

            generate(self.lm, prompts, own, edits, limit, c.batch_size, label, exploded, finished)

        owners: list[list[Owner]] = [[(None, [k, i])] for k, i in asked]
        written = fill("replies", label, "replies", owners, compute)
        texts = [self.lm.tokenizer.decode(one["ids"], skip_special_tokens=True).strip() for one in written]
        items = [Item(str(n), str(n), "", text) for n, text in enumerate(texts)]
        called = named(self._scores(items, [], f"test: {arm.name}, replies named")[0]).tolist()
        return Artifact(
            rows=[
                {
                    "sample": test[i].id, "label": test[i].label, "seed": conditions[k][0],
                    "class": None if conditions[k][1] is None else self.names[int(conditions[k][1] or 0)],
                    "reply": text, "called": None if of < 0 else self.names[of],
                    **({"exploded": True} if written[n]["exploded"] else {}),
                }
                for n, ((k, i), text, of) in enumerate(zip(asked, texts, called, strict=True))
            ]
        )  # fmt: skip
