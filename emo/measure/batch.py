"""One split under several arms: projections, replies, margins and damage, all arms in shared batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor

from emo.config.schema import Config
from emo.core.partial import Done, Owner, fill
from emo.core.sealed import digest
from emo.data.language import ENGLISH
from emo.data.scenarios import Sample, spread
from emo.edit.banks import Found
from emo.edit.base import Arm, Plan, compiled
from emo.measure.damage import kl_per_token, reply_nll
from emo.measure.dose import doses as measured_doses
from emo.measure.edit_divergence import edit_divergences
from emo.measure.encoder import embed
from emo.measure.fluency import fluency
from emo.measure.margin import Question, margins, replies_for
from emo.measure.projections import projections
from emo.model.generate import generate
from emo.model.hooks import Edit
from emo.model.lm import LM
from emo.model.passes import NO_EDIT, Row, once
from emo.model.prompts import prompt_ids

AT_ONCE = 512  # replies that are embedded together: a second or two
DOSE_SAMPLES = 8  # test samples on which doses are measured: they hardly differ between samples


class Entry(NamedTuple):
    """One row of an arm: a sample (index), an emotion (index; None where the arm has none), a seed."""

    sample: int
    emotion: int | None
    seed: int


class Measure:
    """Measures arms on the samples of one split."""

    def __init__(
        self,
        lm: LM,
        config: Config,
        samples: Sequence[Sample],
        replies_of: str,
        found: Found,
        label: str,
    ) -> None:
        self.lm, self.config, self.samples = lm, config, samples
        self.found = found
        self.replies_of = replies_of  # whose held-out replies: sev or sev_test
        self.part = label  # in front of every progress line
        self.names = list(config.emotions.names)

    @cached_property
    def prompts(self) -> list[list[int]]:
        """Token ids: the emotion-free prompt of every sample, then the prompts of each emotion in turn."""
        forms = [None, *self.names]
        return [ids for form in forms for ids in prompt_ids(self.lm, self.config.elicitation, self.samples, form)]

    def entries(self, arm: Arm, scored: bool = False) -> list[Entry]:
        """Return the rows of an arm, in the order of all its results; ``scored``: of its projections."""
        conditions = arm.conditions(len(self.names), scored)
        return [Entry(i, e, seed) for seed, e in conditions for i in range(len(self.samples))]

    def _prompt(self, arm: Arm, entry: Entry) -> int:
        form = 1 + entry.emotion if arm.prompted and entry.emotion is not None else 0
        return form * len(self.samples) + entry.sample

    def _owners(self, arms: Sequence[Arm], scored: bool = False) -> list[list[Owner]]:
        """Return, for every row of `_rows`, what `emo.core.partial` keeps it for: arm, what it does, entry."""
        done = {arm.name: digest(arm.key(scored)) for arm in arms}
        return [[(arm.name, [done[arm.name], *x])] for arm in arms for x in self.entries(arm, scored)]

    def _plan(self, arms: Sequence[Arm], skip_layer: int | None = None) -> Plan:
        return compiled(arms, self.found, skip_layer)

    def _rows(self, arms: Sequence[Arm], made: Plan, scored: bool = False) -> tuple[list[Row], dict[str, slice]]:
        rows: list[Row] = []
        where = {}
        for arm in arms:
            start = len(rows)
            for entry in self.entries(arm, scored):
                cond = made.cond.get((arm.name, entry.seed, entry.emotion), NO_EDIT)
                rows.append(Row(self._prompt(arm, entry), cond, decoding=arm.decoding))
            where[arm.name] = slice(start, len(rows))
        return rows, where

    def project(self, arms: Sequence[Arm], skip_layer: int | None = None) -> dict[str, Tensor]:
        """Return, per arm, projections at the last prompt token (`emo.measure.projections`): (entries, l, e)."""
        made = self._plan(arms, skip_layer)
        rows, where = self._rows(arms, made, scored=True)
        out, _ = self._project(self._owners(arms, scored=True), rows, made.edits)
        return {name: out[part] for name, part in where.items()}

    def project_prompted(self, groups: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the projections of arm prompt (entries, l, e), and the states (groups, e, l, d) of some samples."""
        arms = [Arm("prompt", "prompt")]
        rows, _ = self._rows(arms, Plan([], {}))
        n, e = len(self.samples), len(self.names)
        keep = [form * n + i for i in groups for form in range(e)]
        out, held = self._project(self._owners(arms), rows, [], keep)
        return out, held.view(len(groups), e, *held.shape[1:])

    def states(self, arm: Arm, samples: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return last-token resid_post of some samples: (n, l, d) unedited, (e, n, l, d) under an arm's first draw."""
        made, e = self._plan([arm]), len(self.names)
        edited = [(emotion, i) for emotion in range(e) for i in samples]
        rows = [Row(i) for i in samples]
        rows += [Row(self._prompt(arm, Entry(i, x, 0)), made.cond[arm.name, 0, x]) for x, i in edited]
        owners: list[list[Owner]] = [[(None, k)] for k in range(len(rows))]
        _, held = self._project(owners, rows, made.edits, range(len(rows)))
        n = len(samples)
        return held[:n], held[n:].view(e, n, *held.shape[1:])

    def _project(
        self, owners: list[list[Owner]], rows: list[Row], edits: list[Edit], keep: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor]:
        size, label = self.config.batch_size, f"{self.part}: projections"
        v, site, wanted = self.found.directions.directions, self.found.directions.site, set(keep)

        def compute(left: list[int], done: Done) -> None:
            def finished(k: int, proj: Tensor, state: Tensor | None) -> None:
                done(k, {"proj": proj} | ({} if state is None else {"state": state}))

            own, held = [rows[i] for i in left], [k for k, i in enumerate(left) if i in wanted]
            projections(self.lm, self.prompts, own, edits, v, size, label, held, site, finished)

        found = fill("projections", label, "rows", owners, compute)
        states = [found[i]["state"] for i in keep]
        empty = torch.zeros(0, self.lm.n_layers, self.lm.d)
        return torch.stack([x["proj"] for x in found]), torch.stack(states) if states else empty

    def dose(self, arms: Sequence[Arm]) -> dict[str, list[dict[str, Any]]]:
        """Return, per arm, doses (`emo.measure.dose`) on some samples, one draw of a control: sample, emotion, dose."""
        made = self._plan(arms)
        chosen = set(spread(self.samples, DOSE_SAMPLES))
        first = [(arm, x) for arm in arms for x in self.entries(arm) if x.seed == 0 and x.sample in chosen]
        rows = [Row(self._prompt(arm, x), made.cond.get((arm.name, 0, x.emotion), NO_EDIT)) for arm, x in first]
        size, label = self.config.batch_size, f"{self.part}: doses"

        def compute(left: list[int], done: Done) -> None:
            def finished(k: int, dose: float) -> None:
                done(k, dose if math.isfinite(dose) else None)

            measured_doses(self.lm, self.prompts, [rows[i] for i in left], made.edits, size, label, finished)

        owner = dict(zip(((a.name, x) for a in arms for x in self.entries(a)), self._owners(arms), strict=True))
        found = fill("doses", label, "rows", [owner[arm.name, x] for arm, x in first], compute)
        out: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in arms}
        for (arm, x), dose in zip(first, found, strict=True):
            emotion = None if x.emotion is None else self.names[x.emotion]
            out[arm.name].append({"sample": self.samples[x.sample].id, "emotion": emotion, "dose": dose})
        return out

    def reply(self, arms: Sequence[Arm]) -> dict[str, list[dict[str, Any]]]:
        """Return, per arm, one row per entry: sample id, emotion, seed, reply text and its token ids.

        A reply that ended because its logits were no numbers has ``exploded``.
        """
        made = self._plan(arms)
        rows, where = self._rows(arms, made)
        unique, which = once(rows)
        limit, size = self.config.generation.max_new_tokens, self.config.batch_size
        label = f"{self.part}: replies"

        def compute(left: list[int], done: Done) -> None:
            exploded: set[int] = set()

            def finished(k: int, ids: list[int]) -> None:
                done(k, {"ids": list(ids), "exploded": k in exploded})

            own = [unique[i] for i in left]
            generate(self.lm, self.prompts, own, made.edits, limit, size, label, exploded, finished)

        owners: list[list[Owner]] = [[] for _ in unique]
        for place, own in zip(which, self._owners(arms), strict=True):
            owners[place] += own
        written = fill("replies", label, "replies", owners, compute)
        out = {}
        for arm in arms:
            made_rows = []
            for entry, place in zip(self.entries(arm), which[where[arm.name]], strict=True):
                tokens, exploded = written[place]["ids"], written[place]["exploded"]
                text = self.lm.tokenizer.decode(tokens, skip_special_tokens=True).strip()
                emotion = None if entry.emotion is None else self.names[entry.emotion]
                sample = self.samples[entry.sample].id
                row = {"sample": sample, "emotion": emotion, "seed": entry.seed, "reply": text, "ids": tokens}
                made_rows.append(row | ({"exploded": True} if exploded else {}))
            out[arm.name] = made_rows
        return out

    def divergences(self, arms: Sequence[Arm], tokens: int) -> dict[str, list[tuple[Entry, list[float]]]]:
        """Return, per arm and entry, KL(edited || unedited) at every token of the edited reply (`edit_divergences`)."""
        made = self._plan(arms)
        rows, where = self._rows(arms, made)
        unique, which = once(rows)
        label, size = f"{self.part}: divergence", self.config.batch_size

        def compute(left: list[int], done: Done) -> None:
            own = [unique[i] for i in left]
            edit_divergences(self.lm, self.prompts, own, made.edits, tokens, size, label, done)

        owners: list[list[Owner]] = [[] for _ in unique]
        for place, own in zip(which, self._owners(arms), strict=True):
            owners[place] += own
        kept = fill("divergence", label, "replies", owners, compute)
        found = [[math.inf if x is None else x for x in kept[place]] for place in which]
        return {arm.name: list(zip(self.entries(arm), found[where[arm.name]], strict=True)) for arm in arms}

    def margin(self, arms: Sequence[Arm]) -> dict[str, list[dict[str, Any]]]:
        """Return, per arm, the margin of every sample, seed and target emotion."""
        made = self._plan(arms)
        replies = replies_for(self.lm, self.samples, self.replies_of, self.names)
        questions: list[Question] = []
        owners: list[list[Owner]] = []
        rows: list[dict[str, Any]] = []
        where = {}
        its_owners = iter(self._owners(arms))
        for arm in arms:
            start = len(questions)
            for entry in self.entries(arm):
                [(name, of)] = next(its_owners)
                cond = made.cond.get((arm.name, entry.seed, entry.emotion), NO_EDIT)
                targets = self.names if entry.emotion is None else [self.names[entry.emotion]]
                for target in targets:
                    owners.append([(name, [of, target])])
                    questions.append(Question(self._prompt(arm, entry), cond, entry.sample, target))
                    rows.append({"sample": self.samples[entry.sample].id, "emotion": target, "seed": entry.seed})
            where[arm.name] = slice(start, len(questions))
        size, label = self.config.batch_size, f"{self.part}: margins"

        def compute(left: list[int], done: Done) -> None:
            margins(self.lm, self.prompts, [questions[i] for i in left], replies, made.edits, size, label, done)

        found = fill("margins", label, "margins", owners, compute)
        filled = [row | {"margin": value} for row, value in zip(rows, found, strict=True)]
        return {name: filled[part] for name, part in where.items()}

    def damage(
        self,
        arms: Sequence[Arm],
        replies: dict[str, list[dict[str, Any]]],
        greedy: Sequence[Sequence[int]] | None,
        language: str = ENGLISH,
    ) -> dict[str, list[dict[str, Any]]]:
        """Return, per arm, one row per entry: nll, kl, fluency, cosine to the scenario.

        Args:
            arms: arms to measure.
            replies: their replies, as `reply` gives them.
            greedy: the unedited greedy reply (token ids) of every sample; None: KL is not measured.
            language: of replies that do not tell theirs: that of the unedited ones.
        """
        flat = [
            (arm, entry, row) for arm in arms for entry, row in zip(self.entries(arm), replies[arm.name], strict=True)
        ]
        size = self.config.batch_size
        owners: list[list[Owner]] = [  # of these replies: written anew, they may differ where two tokens are as likely
            [(name, [of, digest(row["ids"])])]
            for [(name, of)], (_, _, row) in zip(self._owners(arms), flat, strict=True)
        ]

        def likely(left: list[int], done: Done) -> None:
            own = [(flat[i][1].sample, flat[i][2]["ids"]) for i in left]
            reply_nll(self.lm, self.prompts, own, size, f"{self.part}: perplexity", done)

        nll = fill("perplexity", f"{self.part}: perplexity", "replies", owners, likely)
        made = self._plan(arms)
        kl: list[float | None] = [None] * len(flat)
        steered = [k for k, (arm, _, _) in enumerate(flat) if arm.steered and not arm.prompted]
        if greedy is not None and steered:  # under another prompt KL would mix prompt and edit
            pairs = [(e.sample, made.cond[a.name, e.seed, e.emotion]) for a, e, _ in (flat[k] for k in steered)]
            tokens, label = self.config.evaluator.kl_tokens, f"{self.part}: KL"

            def divergence(left: list[int], done: Done) -> None:
                own = [pairs[i] for i in left]
                kl_per_token(self.lm, self.prompts, greedy, own, made.edits, tokens, size, label, done)

            read: list[list[Owner]] = [
                [(name, [of, digest(list(greedy[sample]))])]
                for [(name, of)], (sample, _) in zip((owners[k] for k in steered), pairs, strict=True)
            ]
            found = fill("KL", label, "replies", read, divergence)
            for k, value in zip(steered, found, strict=True):
                kl[k] = value

        def likeness(left: list[int], done: Done) -> None:
            scenes = embed([s.text for s in self.samples])
            for start in range(0, len(left), AT_ONCE):
                own = [flat[i] for i in left[start : start + AT_ONCE]]
                cosine = (embed([row["reply"] for _, _, row in own]) * scenes[[e.sample for _, e, _ in own]]).sum(-1)
                for k, (value, (_, _, row)) in enumerate(zip(cosine.tolist(), own, strict=True), start):
                    done(k, value if row["reply"] else None)

        cosines = fill("cosine", f"{self.part}: cosine to the scenario", "replies", owners, likeness)
        out: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in arms}
        for k, (arm, _, row) in enumerate(flat):
            measured = fluency(row["reply"], self.config.evaluator, language)
            keys = {key: row[key] for key in ("sample", "emotion", "seed", "exploded") if key in row}
            if "exploded" in row:  # what stands before the explosion may read well
                measured = measured._replace(degenerate=True)
            out[arm.name].append(keys | measured._asdict() | {"nll": nll[k], "kl": kl[k], "cosine": cosines[k]})
        return out
