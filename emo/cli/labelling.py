"""Who labels replies, and how well: labellers against each other (`agreement`), a sheet for people (`label_sheet`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from emo.config.choices import MINILM
from emo.config.evaluator_options import KEY, with_evaluator
from emo.config.schema import Config, EvaluatorConfig
from emo.core import console
from emo.core.errors import UserError, check_choice
from emo.core.stats import Estimate
from emo.core.store import Artifact, Store, address
from emo.core.types import NEUTRAL, OTHER
from emo.data.class_names import value_of
from emo.measure.labeller import Rows
from emo.measure.labels import EVALUATORS, evaluator_of, label_all
from emo.measure.people import Rater, read_people
from emo.report.agreement_page import write_agreement
from emo.report.corrected_section import refresh
from emo.report.label_sheet import write_sheet
from emo.results.agreement import Agreement, Labels, compare
from emo.results.corrected import Tables, correct
from emo.results.replies import Replies, Reply, drawn, of_file, of_runs
from emo.results.sweep_folder import lists
from emo.results.trusted import Trusted, write_corrections

VERSION = 1
PEOPLE = "people"
SHEET = 200  # replies of a label sheet
SHOWN = 12  # lines of corrected accuracies on the console; the files have all


def agree(config: Config, folders: Sequence[Path] | None) -> int:
    """Compare labellers on the replies of finished runs or of ``agreement.file``; returns 0.

    Args:
        config: ``evaluator``, ``agreement``, and where results go.
        folders: with finished runs; None: ``agreement.file``.

    Raises:
        UserError: there are no replies, a labeller lacks something, or there is only one.
    """
    store = Store(config.paths.store)
    replies, config = _replies(config, folders)
    given = config.agreement
    raters = read_people(given.people, replies.texts(), replies.names)
    own = list(_own_labels(replies))
    makers = _makers(config, [one.name for one in own])
    for made in makers:
        evaluator = evaluator_of(made, store)
        assert evaluator is not None
        evaluator.check()
    chosen = replies.rows if given.limit is None else drawn(replies.rows, given.limit, config.seed)
    labellers = [*own, *(one for made in makers for one in _labelled(made, store, replies.rows, chosen))]
    labellers += [Labels(r.name, [r.labels.get(reply.id) for reply in replies.rows]) for r in raters]
    if len(labellers) < 2:
        raise UserError(
            f"task=agreement: one labeller ({labellers[0].name}) agrees with itself; type agreement.labellers=[...] of "
            f"{', '.join(EVALUATORS)}, or agreement.people=[FILE]"
        )
    draws, seed = config.evaluator.bootstrap, config.seed
    classes = _classes(replies.names, labellers)
    found = compare(replies.rows, labellers, classes, draws, seed)
    corrected, name = None, ""
    shown: list[Path] = []
    if replies.results and (trusted := _trusted(given.trusted, labellers, raters, replies.rows)).labels:
        others = (one for one in labellers if not one.match and one.name != given.trusted)
        called = next((one for one in others if None not in one.labels), None)
        if called is None:
            raise UserError(
                f"agreement.trusted={given.trusted}: no other labeller labelled all replies; leave agreement.limit "
                "out, or give runs with labels of their own"
            )
        corrected, name = correct(replies, called, trusted.labels, draws, seed), called.name
        if any(called is one for one in own):
            shown = write_corrections(replies, corrected, trusted, name)
    folder = Path(config.paths.outputs) / config.name / "agreement"
    page = write_agreement(folder, replies, labellers, found, corrected)
    _show(found, corrected, replies)
    console.say(f"report: {page}")
    if corrected is not None:
        _show_pages(shown, name, own)
    console.answer(folder)
    return 0


def make_sheet(config: Config, folders: Sequence[Path] | None) -> int:
    """Draw replies for people to label and write the sheet, as CSV and as a page; returns 0.

    Raises:
        UserError: there are no replies, or another sheet is there already.
    """
    replies, config = _replies(config, folders)
    chosen = drawn(replies.rows, config.agreement.limit or SHEET, config.seed)
    folder = Path(config.paths.outputs) / config.name / "label_sheet"
    table, page = write_sheet(folder, chosen, [*replies.names, NEUTRAL])
    console.say(f"{len(chosen)} of {len(replies.texts())} different replies, in an order that tells nothing of them")
    console.say(f"label them in a browser: {page}; or in a table: {table}")
    named = ",".join(map(str, folders or ()))
    runs = f"runs={named}" if len(folders or ()) < 2 else f'"runs=[{named}]"'
    source = f"agreement.file={config.agreement.file}" if folders is None else runs
    console.say(f"then type task=agreement {source} agreement.people=[FILE of each rater]")
    console.answer(folder)
    return 0


def _replies(config: Config, folders: Sequence[Path] | None) -> tuple[Replies, Config]:
    """Return the replies, and the configuration with their emotions."""
    if folders is None:
        file = Path(str(config.agreement.file)).expanduser()
        if config.runs is not None:
            raise UserError(f"agreement.file={file} runs={config.runs}: texts of a file or of runs; leave one out")
        return of_file(file, config.emotions.names), config
    found = _of_one_evaluator(of_runs(folders), config.evaluator)
    return found, replace(config, emotions=replace(config.emotions, names=list(found.names)))


def _of_one_evaluator(replies: Replies, asked: EvaluatorConfig) -> Replies:
    """Return the runs that one evaluator labelled: a run that was judged again has the same replies once more."""
    by = {job: _called(result["config"]["evaluator"]) for job, result in replies.results.items()}
    first = _called({"name": asked.name, "model": asked.model})
    kept = first if first in by.values() else next(iter(by.values()))
    left = [job for job, name in by.items() if name != kept]
    if not left:
        return replies
    others = ", ".join(f"{n} by {name}" for name, n in Counter(by[job] for job in left).items())
    console.say(f"runs labelled by {kept} are read; left out: {others} (evaluator= says which)")
    rows = [reply for reply in replies.rows if reply.row["job"] not in left]
    return replies._replace(
        rows=rows, results={job: result for job, result in replies.results.items() if job not in left}
    )


def _called(evaluator: Mapping[str, object]) -> str:
    """Return the name of a labeller: the evaluator's, with the model that it asks or the encoder that it reads with."""
    name, model, encoder = str(evaluator["name"]), evaluator.get("model"), evaluator.get("encoder", MINILM)
    if name == "classifier" and encoder != MINILM:
        model = encoder
    return f"{name} {model}" if model and name != "hf_classifier" else name


def _own_labels(replies: Replies) -> Iterator[Labels]:
    """Yield the labels that the replies have already: of their runs, or of the columns of the file."""
    for column in ("label", "match"):
        given: list[str | int | None] = [value_of(reply.row.get(column)) or None for reply in replies.rows]
        if all(value is None for value in given):
            continue
        match = column == "match"
        if match:
            given = [None if value is None else int(value) for value in given]
        if replies.results:
            name = _called(next(iter(replies.results.values()))["config"]["evaluator"])
            yield Labels(f"{name}, match" if match else name, given, match)
            continue
        yield Labels(f"column {column}", given, match)
        if match:  # what was found to match names the target
            told = [r.target if value == 1 else None for r, value in zip(replies.rows, given, strict=True)]
            yield Labels("target where match = 1", told, targets=True)


def _makers(config: Config, there: Sequence[str]) -> list[Config]:
    """Return a configuration for every labeller that has to label."""
    wanted = [config, *(with_evaluator(config, name) for name in config.agreement.labellers)]
    made: dict[str, Config] = {}
    for one in wanted:
        name = _called(asdict(one.evaluator))
        kept = [kind for kind in one.evaluator.questions if kind != "joint"]  # a score is no label
        one = replace(one, evaluator=replace(one.evaluator, questions=kept or ["blind"]))
        if evaluator_of(one, Store(one.paths.store)) is None:
            if one.evaluator.name in config.agreement.labellers:
                raise UserError(f"{KEY}={one.evaluator.name}: labels nothing; type {', '.join(EVALUATORS)}")
            continue  # evaluator=projection: no labeller beside the others
        if name not in there:
            made.setdefault(name, one)
    return list(made.values())


def _labelled(config: Config, store: Store, all_: Sequence[Reply], chosen: Sequence[Reply]) -> list[Labels]:
    """Return what one evaluator says of the chosen replies: its labels, and where it was asked the match."""
    asked = list(dict.fromkeys((reply.text, reply.target) for reply in chosen))
    rows = [{"sample": str(i), "emotion": target, "seed": 0, "reply": text} for i, (text, target) in enumerate(asked)]
    said = dict(zip(asked, _cached(config, store, rows), strict=True))
    name = _called(asdict(config.evaluator))
    named = {text: row for (text, _), row in said.items()}  # a label is of the text, whatever its target
    found = []
    for key in ("label", "match"):
        rows_of = [said.get((r.text, r.target)) if key == "match" else named.get(r.text) for r in all_]
        values = [None if row is None else row.get(key) for row in rows_of]
        if any(value is not None for value in values):
            found.append(Labels(f"{name}, match" if key == "match" else name, values, key == "match"))
    return found


def _cached(config: Config, store: Store, rows: Rows) -> Rows:
    """Label rows once: a judge keeps its answers itself, what another labeller says is kept in the store."""
    evaluator = evaluator_of(config, store)
    assert evaluator is not None
    if evaluator.remembers:
        return label_all(store, config, {PEOPLE: rows})[PEOPLE]
    key = address("agreement", VERSION, labeller=evaluator.address(), rows=rows)
    names = {"evaluator": config.evaluator.name}
    return store.get_or_compute(
        "agreement", key, names, lambda: Artifact(rows=label_all(store, config, {PEOPLE: rows})[PEOPLE])
    ).rows


def _classes(names: Sequence[str], labellers: Sequence[Labels]) -> list[str]:
    used = {label for one in labellers if not one.match for label in one.labels}
    return [*names, NEUTRAL, *([OTHER] if OTHER in used else [])]


def _trusted(
    name: str | None, labellers: Sequence[Labels], raters: Sequence[Rater], replies: Sequence[Reply]
) -> Trusted:
    """Return what stands for the truth; where people differ the label that most gave, then the first."""
    if name is None and not raters:
        return Trusted("", {}, 0)
    if name in (None, PEOPLE):
        if not raters:
            raise UserError(f"agreement.trusted={PEOPLE}: no labels by people; type agreement.people=[FILE]")
        ids = dict.fromkeys(key for rater in raters for key in rater.labels)
        votes = {key: Counter(r.labels[key] for r in raters if key in r.labels) for key in ids}
        most = {key: found.most_common(1)[0][0] for key, found in votes.items()}
        several = " (what most gave, then the first)" if len(raters) > 1 else ""
        return Trusted(", ".join(rater.name for rater in raters) + several, most, sum(rater.lost for rater in raters))
    naming = [one for one in labellers if not one.match]
    check_choice("agreement.trusted", name, [PEOPLE, *(one.name for one in naming)])
    one = next(one for one in naming if one.name == name)
    given = {r.id: str(label) for r, label in zip(replies, one.labels, strict=True) if label is not None}
    return Trusted(one.name, given, next((rater.lost for rater in raters if rater.name == name), 0))


def _show_pages(folders: Sequence[Path], called: str, own: Sequence[Labels]) -> None:
    """Bring the pages of the jobs up to date, and say what else shows the corrected accuracies."""
    if not folders:
        names = ", ".join(one.name for one in own if not one.match) or "nobody"
        console.say(f"the jobs' pages stay as they are: they show labels of {names}, and {called}'s were corrected")
        return
    done = [folder for folder in folders if refresh(folder)]
    console.say(f"the pages of {len(done)} jobs show corrected accuracies beside the raw ones now")
    if len(done) < len(folders):
        few = next(folder for folder in folders if folder not in done)
        console.warn(
            f"{len(folders) - len(done)} pages are gone or of an earlier version and do not ({few / 'report.html'}); "
            "delete it and type the job's line again, then this one"
        )
    sweeps = [root for root in dict.fromkeys(folder.parent for folder in folders) if lists(root)]
    for root in sweeps:
        console.say(f"so does the page of their sweep, once it is written anew: task=summarize runs={root}")


def _show(found: Agreement, corrected: Tables | None, replies: Replies) -> None:
    """Print the tables."""
    rows = [[f"{x.first} / {x.second}", x.texts, x.pair.agreement, x.pair.kappa] for x in found.pairs]
    scenarios = len({reply.cluster for reply in replies.rows})
    title = f"agreement [95 % interval over {scenarios} scenarios]"
    console.table(title, ["labellers", "texts", "equal", "Cohen's kappa"], rows)
    if found.fleiss is not None:
        console.say(f"Fleiss' kappa of all that name classes: {console.format_estimate(found.fleiss)}")
    if found.targets:
        shares = [[name, x.n, x] for name, x in found.targets.items()]
        console.table("on target", ["labeller", "texts and targets", "share"], shares)
    for x in found.inflation:
        console.say(
            f"{x.told} finds the target in {console.format_estimate(x.share_told)}, {x.blind} in "
            f"{console.format_estimate(x.share_blind)} of the same texts: "
            f"{console.format_estimate(x.more.difference)} more"
        )
    if corrected is None:
        return
    whole = [x for x in corrected.shares if x.emotion is None and x.metric == "clean_accuracy"]
    empty = Estimate(None, None, None, 0)
    several = len({x.job for x in whole}) > 1  # an arm's name alone would stand there once for each job
    lines = [
        [
            f"{x.arm}, job {x.job[:8]}" if several else x.arm,
            x.raw,
            x.powered.estimate,
            x.confusion or empty,
            x.powered.labelled,
            x.powered.to_halve or "-",
        ]
        for x in whole[:SHOWN]
    ]
    console.table(
        f"clean accuracy, corrected by {corrected.labelled} labelled replies",
        ["arm", "raw", "prediction-powered", "confusion matrix", "labelled", "would halve it"], lines,
    )  # fmt: skip
    if len(whole) > SHOWN:
        console.say(f"{len(whole) - SHOWN} more lines: in corrected.csv")
    if corrected.lacking:
        few = ", ".join(f"{name} {n}" for name, n in corrected.lacking.items())
        console.say(f"no confusion matrix: too few labelled replies of {few}; 5 of each class are needed")
