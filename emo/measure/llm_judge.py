"""A local language model as judge: which label is likeliest after the question, beyond what it is for any text.

    s(c) = log p(name of c | question about the reply) - mean over texts of nothing of the same   (nats)
    p(c) = softmax(T s(c)),  T > 0 fitted on shipped replies of the job's classes

The label is the largest s. What is taken off is what the model says whatever it reads (contextual calibration, Zhao et
al. 2021, arXiv 2102.09690); T makes p the chance of being right, and changes no label. How often the model names the
class of the shipped replies is measured with it and said: a small one is hardly better than chance. The question is
that of `emo.measure.class_prediction`, without a list of the names.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import softmax
from torch import Tensor

from emo.config.model_source import check_model
from emo.config.schema import Config
from emo.core.console import note, warn
from emo.core.errors import UserError
from emo.core.store import Artifact, Store, address
from emo.core.types import NEUTRAL
from emo.data.labelled import Item
from emo.data.texts import CORPUS, digest_of, read_jsonl
from emo.measure.class_prediction import Asked, choice_ids, choice_scores, question_ids
from emo.measure.classifier_fit import temperature
from emo.measure.labeller import Done, Rows, from_chances, row_of
from emo.model.lm import LM, ModelSpec
from emo.model.load import describe, fetch, load
from emo.model.named import model_config

VERSION = 1
KEY = "evaluator.model"
NOTHING = ("N/A", "[MASK]", "...")  # texts that express no emotion and no lack of one
EACH = 12  # shipped replies per class that T is fitted on
WEAK = 0.5  # share of them below which a model is called weak
BATCH = 32  # prompts in one pass, at most


class LocalJudge:
    """``evaluator=llm_judge``: an `emo.measure.labeller.Evaluator`."""

    remembers = False

    def __init__(self, config: Config, store: Store) -> None:
        self.config, self.store = config, store
        self.names = [*config.emotions.names, NEUTRAL]

    @cached_property
    def spec(self) -> ModelSpec:
        """The judging model; raises `UserError` where there is none of this name."""
        name = self.config.evaluator.model
        if not name:
            raise UserError(f"evaluator=llm_judge needs {KEY}=NAME: an option of model=, a folder, or OWNER/NAME")
        made = model_config(name)
        check_model(made)
        return describe(made, self.config.device, self.config.dtype)

    def address(self) -> str:
        """Return the address of the model, the names and the replies that T is fitted on."""
        corpus = {name: digest_of(name) for name in CORPUS}
        return address("llm_judge", VERSION, model=self.spec.identity, names=self.names, corpus=corpus)

    def check(self) -> None:
        """Raise `UserError` where there is no such model."""
        _ = self.spec

    def prefetch(self) -> str:
        """Download the model where it is not on this machine."""
        fetch(self.spec)
        return f"llm_judge: {self.spec.id} at {self.spec.version} is on this machine"

    def label(self, replies: Rows, done: Done) -> None:
        """Label replies by the likeliest name, with its chance; one too long for the model stays without a label."""
        known = self.calibration()
        prior, scale = known.tensors["prior"], known.meta["temperature"]
        self._say(known.meta)
        lm = load(self.spec)
        prompts = self._questions(lm, [row["reply"] for row in replies])
        longest = self._longest(lm)
        fits = [i for i, ids in enumerate(prompts) if longest is None or len(ids) <= longest]
        for i in set(range(len(replies))) - set(fits):
            done(i, row_of(replies[i], None))

        def heard(k: int, scores: Tensor) -> None:
            p = softmax(scale * (scores - prior).double().numpy()[None], axis=1)
            done(fits[k], from_chances(self.names, p, [replies[fits[k]]])[0])

        self._scores(lm, [prompts[i] for i in fits], "llm_judge", heard)

    def calibration(self) -> Artifact:
        """Return the prior (C,) in nats; in ``meta`` T, and how often the model names a shipped reply's class."""
        return self.store.get_or_compute("llm_judge", self.address(), {"model": self.spec.id}, self._calibrate)

    def _calibrate(self) -> Artifact:
        lm = load(self.spec)
        prior = self._scores(lm, self._questions(lm, NOTHING), "llm_judge: texts of nothing").mean(0)
        shipped = [row for name in CORPUS for row in read_jsonl(name)]
        rows = [row for name in self.names for row in _spread([r for r in shipped if r["emotion"] == name])]
        meta: dict[str, Any] = {"temperature": 1.0, "n": len(rows), "accuracy": None}
        if rows:
            scores = self._scores(lm, self._questions(lm, [str(r["text"]) for r in rows]), "llm_judge: shipped replies")
            beyond = (scores - prior).double().numpy()
            right = np.array([self.names.index(row["emotion"]) for row in rows])
            meta["temperature"] = temperature(beyond, right)
            meta["accuracy"] = float((beyond.argmax(1) == right).mean())
        return Artifact({"prior": prior}, meta=meta)

    def _say(self, known: dict[str, Any]) -> None:
        if known["accuracy"] is None:
            note(f"llm_judge: no shipped replies of {', '.join(self.names[:-1])}, so its chances are not calibrated")
            return
        line = (
            f"llm_judge: {self.spec.id} names the class of {known['accuracy']:.0%} of {known['n']} shipped replies "
            f"(chance {1 / len(self.names):.0%})"
        )
        if known["accuracy"] < WEAK:
            warn(f"{line}: too weak to be read as labels; task=agreement says how far it agrees with others")
        else:
            note(line)

    def _questions(self, lm: LM, texts: Sequence[str]) -> list[list[int]]:
        items = [Item(str(i), str(i), NEUTRAL, text) for i, text in enumerate(texts)]
        return question_ids(lm, items, self.names, "emotion")

    def _longest(self, lm: LM) -> int | None:
        context = self.spec.context
        return None if context is None else context - max(map(len, choice_ids(lm, self.names)))

    def _scores(self, lm: LM, prompts: Sequence[Sequence[int]], label: str, heard: Any = None) -> Tensor:
        rows = [Asked(i, -1) for i in range(len(prompts))]
        more = {} if heard is None else {"done": heard}
        batch = min(BATCH, self.config.batch_size)
        return choice_scores(lm, prompts, rows, [], choice_ids(lm, self.names), batch, label, **more)


def _spread(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most `EACH` rows, spread over the corpus."""
    n = min(EACH, len(rows))
    return [rows[i * len(rows) // n] for i in range(n)]
