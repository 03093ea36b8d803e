"""What an evaluator calls the replies: labels, and from them accuracy (methods 1.12, 4.3).

    accuracy        = the label (emotions, neutral, or other: what a map of labels leaves out) equals the target
    clean_accuracy  = that, and the reply is not degenerate
    forced_accuracy = the likeliest of the emotions alone equals the target (not for a judge, which gives no chances)
    match           = a judge that was told the target says that the style matches it

A reply without a label (an evaluator that failed on it) is unjudged: counted, in no mean, and asked for again by the
next call (`emo.measure.unjudged`). A reply of an arm without a target counts once for every emotion.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emo.config.schema import Config, EvaluatorConfig
from emo.core.errors import UserError
from emo.core.partial import Done, Owner, fill
from emo.core.store import Store, address
from emo.core.types import NEUTRAL, OTHER
from emo.measure.classifier import classes, classifier_address, load_classifier

Rows = list[dict[str, Any]]
LABELLERS = ("classifier", "hf_classifier", "openai_judge")  # evaluators that label replies
AT_ONCE = 512  # replies that are labelled together, a second or two: then they are kept (`emo.core.partial`)
ABSENT = "absent"  # in place of a LABEL: the model has none for this CLASS
VERSION = 2


def check_labels(config: Config, store: Store) -> None:
    """Check that the replies of this job can be labelled, before any is written.

    Raises:
        UserError: the classifier does not know one of the emotions, or a judge has no key.
    """
    unknown = [name for name in config.emotions.names if name not in classes()]
    if config.evaluator.name == "classifier" and unknown:
        raise UserError(
            f"evaluator=classifier: no class {', '.join(unknown)} in it; it knows {', '.join(classes())}; "
            "type evaluator=projection"
        )
    if config.evaluator.name == "openai_judge":
        _judge(config.evaluator, store).check()
    if config.evaluator.name == "hf_classifier":
        _check_label_map(config)


def _check_label_map(config: Config) -> None:
    given, names = config.evaluator.labels, config.emotions.names
    known = [*names, NEUTRAL]
    pairs = [pair.rpartition(":")[::2] for pair in given]
    wrong = [pair for pair, (label, name) in zip(given, pairs, strict=True) if not label or name not in known]
    absent = [name for label, name in pairs if label == ABSENT]
    mapped = [name for label, name in pairs if label != ABSENT]
    twice = [label for label, _ in pairs if label != ABSENT and [one for one, _ in pairs].count(label) > 1]
    missing = [name for name in names if name not in mapped]
    said = ""
    if wrong:
        said = f"{wrong[0]} is none"
    elif twice:
        said = f"{twice[0]} has several"
    elif any(name != NEUTRAL for name in absent):
        said = f"only {NEUTRAL} can be {ABSENT}"
    elif missing or config.evaluator.model is None:
        said = f"{', '.join(missing) or 'each emotion'} needs one"
    elif (NEUTRAL in mapped) == (NEUTRAL in absent):
        said = f"{NEUTRAL} needs one, or {ABSENT}:{NEUTRAL} where the model has no such label"
    if OTHER in names:
        said = f"{OTHER} is the name of what is mapped to no class: give the emotion another"
    if said:
        raise UserError(
            "evaluator=hf_classifier: type evaluator.model=OWNER/NAME 'evaluator.labels=[LABEL:CLASS,...]', "
            f"CLASS one of {', '.join(known)}; {said}"
        )


def _label_map(config: Config) -> dict[str, str]:
    """Return {label of the hub's model: class}."""
    pairs = (pair.rpartition(":")[::2] for pair in config.evaluator.labels)
    return {label: name for label, name in pairs if label != ABSENT}


def labeller_address(config: Config) -> str | None:
    """Return the address of what labels this job's replies, or None where nothing does."""
    e = config.evaluator
    if e.name not in LABELLERS:
        return None
    if e.name == "classifier":
        return classifier_address(config.emotions.names)
    if e.name == "hf_classifier":
        from emo.measure.hf_classifier import commit

        return address("hf_classifier", VERSION, model=e.model, commit=commit(str(e.model)), labels=e.labels)
    from emo.measure.judge import PROMPTS_VERSION, JudgeSettings

    url = JudgeSettings(model=e.model or "", base_url=e.base_url).url()
    told = {"descriptions": descriptions(config)} if descriptions(config) else {}
    return address(
        "openai_judge", VERSION, model=e.model, url=url, texts=PROMPTS_VERSION, questions=e.questions, **told
    )


def descriptions(config: Config) -> tuple[tuple[str, str], ...]:
    """Return what a blind judge is told about the emotions, in their order."""
    given = config.emotions.descriptions or {}
    return tuple((name, given[name]) for name in config.emotions.names if name in given)


def label_all(store: Store, config: Config, replies: dict[str, Rows]) -> dict[str, Rows]:
    """Return the rows of `label_rows` for the replies of several arms, by the job's evaluator.

    Args:
        store: holds what the evaluator keeps: the fitted classifier, a judge's answers.
        config: of the job.
        replies: per arm, rows with sample, emotion (None: no target), seed and reply.
    """
    flat = [row for rows in replies.values() for row in rows]
    if config.evaluator.name == "openai_judge":  # which keeps every answer in a book of its own
        made = _judged(store, config, flat)
    else:
        owners: list[list[Owner]] = [
            [(arm, [row["sample"], row["emotion"], row["seed"], hashlib.sha256(row["reply"].encode()).hexdigest()])]
            for arm, rows in replies.items()
            for row in rows
        ]

        def compute(left: list[int], done: Done) -> None:
            own = [flat[i] for i in left]

            def heard(start: int, names: Sequence[str], p: np.ndarray) -> None:
                for k, row in enumerate(_from_chances(names, p, own[start : start + len(p)]), start):
                    done(k, row)

            _classified(store, config, [row["reply"] for row in own], heard)

        made = fill("labels", "labels", "replies", owners, compute)
    ends = [int(end) for end in np.cumsum([len(rows) for rows in replies.values()])]
    return {arm: made[end - len(rows) : end] for (arm, rows), end in zip(replies.items(), ends, strict=True)}


def _classified(
    store: Store, config: Config, texts: Sequence[str], heard: Callable[[int, Sequence[str], np.ndarray], None]
) -> None:
    """Classify texts, a part at a time: ``heard`` is given a part's first place, the names and the chances (n, c)."""
    if config.evaluator.name == "hf_classifier":
        from emo.measure.hf_classifier import probabilities

        probabilities(str(config.evaluator.model), _label_map(config), texts, heard)
        return
    made = load_classifier(store, config.emotions.names)
    for start in range(0, len(texts), AT_ONCE):
        heard(start, made.names, made.probabilities(texts[start : start + AT_ONCE]))


def label_rows(store: Store, names: Sequence[str], replies: Rows) -> Rows:
    """Return one row per reply by the offline classifier: sample, emotion, seed, label, forced, p (of the label)."""
    if not replies:
        return []
    made = load_classifier(store, names)
    return _from_chances(made.names, made.probabilities([row["reply"] for row in replies]), replies)


def _from_chances(names: Sequence[str], p: np.ndarray, replies: Rows) -> Rows:
    """Return the likeliest class of every reply and the likeliest emotion, from chances (n, c) of the classes."""
    emotions = [i for i, name in enumerate(names) if name not in (NEUTRAL, OTHER)]
    empty = NEUTRAL if NEUTRAL in names else OTHER
    rows = []
    for reply, chances in zip(replies, p, strict=True):
        label = names[int(chances.argmax())] if reply["reply"].strip() else empty
        forced = max(emotions, key=lambda i: chances[i])
        rows.append(_keys(reply) | {"label": label, "forced": names[forced], "p": float(chances.max())})
    return rows


def _keys(reply: dict[str, Any]) -> dict[str, Any]:
    return {key: reply[key] for key in ("sample", "emotion", "seed")}


def _judge(e: EvaluatorConfig, store: Store) -> Any:
    from emo.measure.judge import Judge, JudgeSettings

    settings = JudgeSettings(
        e.model or "", e.base_url, e.structured, e.concurrency, e.timeout_s, e.retries, e.price_input, e.price_output
    )
    return Judge(settings, store.root / "judge")


def _judged(store: Store, config: Config, replies: Rows) -> Rows:
    """Ask the blind question about every reply, and the match question where a reply has a target."""
    from emo.measure.judge import Question

    names, kinds = tuple(config.emotions.names), config.evaluator.questions
    asked = []
    for i, row in enumerate(replies):
        if "blind" in kinds:
            asked.append((i, Question("blind", None, row["reply"], names, descriptions(config))))
        if "match" in kinds and row["emotion"] is not None:
            asked.append((i, Question("match", row["emotion"], row["reply"], names)))
    answers = _judge(config.evaluator, store).ask([question for _, question in asked])
    rows = [_keys(row) | {"label": None, "forced": None, "p": None, "match": None} for row in replies]
    for (i, question), answer in zip(asked, answers, strict=True):
        rows[i]["label" if question.kind == "blind" else "match"] = answer.label
    return rows


def hits(row: dict[str, Any], target: str, degenerate: bool) -> dict[str, float | None]:
    """Return the accuracies of one labelled reply against ``target``, 0 or 1; None where it is unjudged."""
    right = None if row["label"] is None else float(row["label"] == target)
    return {
        "accuracy": right,
        "clean_accuracy": None if right is None else right * (not degenerate),
        "forced_accuracy": None if row["forced"] is None else float(row["forced"] == target),
        "match": None if row.get("match") is None else float(row["match"]),
    }
