"""A language model as evaluator: which questions are asked about every reply, and the rows that its answers give."""

from __future__ import annotations

from functools import cached_property

from emo.config.schema import Config
from emo.core.store import Store, address
from emo.data.scenarios import load_splits
from emo.measure.judge import PROMPTS_VERSION, Judge, JudgeSettings, Question
from emo.measure.labeller import Done, Rows, row_of

VERSION = 2


class JudgeEvaluator:
    """``evaluator=openai_judge``: an `emo.measure.labeller.Evaluator`."""

    remembers = True  # in a book, answer by answer

    def __init__(self, config: Config, store: Store) -> None:
        self.config, self.store = config, store

    def address(self) -> str:
        """Return the address of the judge's model, server, questions and what it is told."""
        e, told = self.config.evaluator, descriptions(self.config)
        url = JudgeSettings(model=e.model or "", base_url=e.base_url).url()
        given = {"descriptions": told} if told else {}
        return address(
            "openai_judge", VERSION, model=e.model, url=url, texts=PROMPTS_VERSION, questions=e.questions, **given
        )

    def check(self) -> None:
        """Raise `UserError` where a key is needed and missing."""
        self._judge().check()

    def prefetch(self) -> None:
        """Bring nothing: it answers over the network."""

    def label(self, replies: Rows, done: Done) -> None:
        """Ask the blind question about every reply, and the others where a reply has a target."""
        names, kinds = tuple(self.config.emotions.names), self.config.evaluator.questions
        asked = []
        for i, row in enumerate(replies):
            if "blind" in kinds:
                asked.append((i, Question("blind", None, row["reply"], names, descriptions(self.config))))
            if "match" in kinds and row["emotion"] is not None:
                asked.append((i, Question("match", row["emotion"], row["reply"], names)))
            if "joint" in kinds and row["emotion"] is not None:
                prompt = self._prompts[row["sample"]]
                asked.append((i, Question("joint", row["emotion"], row["reply"], names, prompt=prompt)))
        answers = self._judge().ask([question for _, question in asked])
        empty = {"match": None, **({"joint": None} if "joint" in kinds else {})}
        rows = [row_of(row, None) | empty for row in replies]
        for (i, question), answer in zip(asked, answers, strict=True):
            rows[i]["label" if question.kind == "blind" else question.kind] = answer.label
        for i, row in enumerate(rows):
            done(i, row)

    @cached_property
    def _prompts(self) -> dict[str, str]:
        """What the test samples say, by their id: the joint question asks whether a reply answers it."""
        return {sample.id: sample.text for sample in load_splits(self.config.dataset, self.config.seed).test}

    def _judge(self) -> Judge:
        e = self.config.evaluator
        settings = JudgeSettings(
            e.model or "",
            e.base_url,
            e.structured,
            e.concurrency,
            e.timeout_s,
            e.retries,
            e.price_input,
            e.price_output,
            e.requests_per_minute,
            e.tokens_per_minute,
            e.batch,
        )
        return Judge(settings, self.store.root / "judge")


def descriptions(config: Config) -> tuple[tuple[str, str], ...]:
    """Return what a blind judge is told about the emotions, in their order."""
    given = config.emotions.descriptions or {}
    return tuple((name, given[name]) for name in config.emotions.names if name in given)
