"""From rows per reply to the numbers of a result: means with 95 % intervals, per arm and part of the data.

Values are averaged over a control's draws per sample; intervals resample scenarios and draws (methods 4).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np

from emo.config.choices import DRAWN_CIRCUITS, DRAWN_UNITS
from emo.config.interventions import kind_of
from emo.core.frames import pd
from emo.core.metric_keys import metric_key
from emo.core.stats import Estimate, Repeats, estimate, estimate_ratio, holm, paired
from emo.data.near import clusters_of
from emo.edit.base import Arm
from emo.measure.labels import hits
from emo.measure.reply_metrics import load_metrics, values_of
from emo.pipeline.scenario import Job


def long_table(job: Job) -> pd.DataFrame:
    """Return one row per arm, metric, sample, target emotion and draw: the values behind every estimate.

    ``scenario`` numbers what is resampled, `emo.data.near.clusters_of`; ``value`` is None or nan where nothing was
    measured.
    """
    projected, parts = list(_projection_rows(job)), [_dose_rows(job)]  # projections first: cheap, and needed by all
    if job.config.evaluator.name != "projection":
        parts += [_label_rows(job), _margin_rows(job), _damage_rows(job), _own_rows(job)]
    rows = pd.DataFrame([row for part in parts for row in part])
    frame = pd.concat([part for part in (*projected, rows) if len(part)], ignore_index=True)
    place = clusters_of(job.splits.test)
    frame["scenario"] = frame["sample"].map(place)
    frame["valence"] = frame["sample"].map({s.id: s.valence for s in job.splits.test})
    return with_draws(frame, {arm.name for arm in job.arms if is_drawn(arm)})


def with_draws(frame: pd.DataFrame, drawn: Collection[str]) -> pd.DataFrame:
    """Number the pairs of sample and emotion of a long table, and the draws of the arms that are ``drawn``.

    The other emotions of a control stand in the place of seeds but are no sample of anything: they are averaged.
    """
    frame["pair"] = frame.groupby(["sample", "emotion"], sort=False).ngroup()
    frame["draw"] = frame["seed"].where(frame["arm"].isin(list(drawn)), 0).astype(int)
    return frame


def _projection_rows(job: Job) -> Iterator[pd.DataFrame]:
    gap, ids = prompt_gap(job), np.array([s.id for s in job.splits.test], dtype=object)
    for arm in job.arms:
        shift = projection_shift(job, arm.name).sum(-1)  # zero for arm none: it is the reference
        final = _projected(job, arm.name, job.last_block[arm.name])
        final = final - _projected(job, arm.reference, job.last_block[arm.reference]).mean(0)
        k, e, i = (index.ravel() for index in np.indices(shift.shape))
        own = {"arm": arm.name, "sample": ids[i], "emotion": np.array(job.names, dtype=object)[e], "seed": k}
        yield pd.DataFrame(own | {"metric": "delta_s", "value": _finite(shift).ravel()})
        yield pd.DataFrame(own | {"metric": "delta_s_last", "value": _finite(final).ravel()})
        if gap is not None:  # resampled together with the numerator
            yield pd.DataFrame(own | {"metric": "delta_s_rel", "value": _finite(shift).ravel(), "base": gap[i]})


def projection_shift(job: Job, arm: str) -> np.ndarray:
    """Return s(arm) - s(its reference) per draw and block: (k, e, n, l).

    The reference is arm none, and arm prompt where units are ablated under the emotion prompt.
    """
    proj, base = job.projections, _arm(job, arm).reference
    return _projected(job, arm, proj[arm]) - _projected(job, base, proj[base]).mean(0)


def _arm(job: Job, name: str) -> Arm:
    return next(arm for arm in job.arms if arm.name == name)


def _projected(job: Job, name: str, proj: Any) -> np.ndarray:
    """Return each target emotion's own projection: (k, e, n) or (k, e, n, l) from (entries, [l,] e)."""
    arm = _arm(job, name)
    n, e = len(job.splits.test), len(job.names)
    x = proj.numpy().astype(np.float64)
    per = x.reshape(arm.draws(scored=True), -1, n, *x.shape[1:])  # (k, e or 1, n, [l,] e)
    return np.stack([per[:, t if per.shape[1] > 1 else 0][..., t] for t in range(e)], axis=1)


def _finite(x: np.ndarray) -> np.ndarray:
    """Return numbers, nan where they exploded: missing, like what was not measured."""
    return np.where(np.isfinite(x), x, np.nan)


def prompt_gap(job: Job) -> np.ndarray | None:
    """Return what delta_s_rel divides by (methods 1.8): s(emotion prompt) - s(no emotion) of every sample (n,).

    Pooled over emotions, since one emotion's can be near zero, and with its sign chosen so that the mean is
    positive; None where the prompt was not run.
    """
    if "prompt" not in job.projections:
        return None
    gap = projection_shift(job, "prompt")[0].sum(-1).mean(0)
    return gap * (1.0 if gap.mean() >= 0 else -1.0)


def _per_target(job: Job, rows: list[dict[str, Any]], keys: tuple[str, ...]) -> pd.DataFrame:
    """Return rows per draw, sample and target; rows without an emotion count for every target."""
    frame = pd.DataFrame(rows)
    if "seed" not in frame:
        frame["seed"] = 0
    blank = frame["emotion"].isna()
    copies = [frame[~blank], *(frame[blank].assign(emotion=name) for name in job.names)]
    whole = pd.concat([c for c in copies if len(c)])
    whole[list(keys)] = whole[list(keys)].astype(float)
    return whole[["sample", "emotion", "seed", *keys]]


def _margin_rows(job: Job) -> Iterator[dict[str, Any]]:
    for arm, rows in job.margins.items():
        for row in _per_target(job, rows, ("margin",)).to_dict("records"):
            yield {"arm": arm, "metric": "logprob_margin", "value": row["margin"], **_place(row)}


def _dose_rows(job: Job) -> Iterator[dict[str, Any]]:
    for arm, rows in job.doses.items():
        for row in _per_target(job, rows, ("dose",)).to_dict("records"):
            yield {"arm": arm, "metric": "dose", "value": row["dose"], **_place(row)}


def _label_rows(job: Job) -> Iterator[dict[str, Any]]:
    """Yield the accuracies of every arm that any arm has: a judge may have been asked for the match alone."""
    keys = ("accuracy", "clean_accuracy", "forced_accuracy", "unsure", "match", "joint")
    tables: dict[str, pd.DataFrame] = {}
    for arm, rows in job.labels.items():
        scored = []
        for row, measured in zip(rows, job.damage[arm], strict=True):
            for target in job.names if row["emotion"] is None else [row["emotion"]]:
                found = hits(row, target, measured["degenerate"])
                scored.append({"sample": row["sample"], "emotion": target, "seed": row["seed"], **found})
        tables[arm] = _per_target(job, scored, keys)
    known = [key for key in keys if any(table[key].notna().any() for table in tables.values())]
    for arm, table in tables.items():
        for row in table.to_dict("records"):
            for key in known:
                yield {"arm": arm, "metric": key, "value": row[key], **_place(row)}


def _damage_rows(job: Job) -> Iterator[dict[str, Any]]:
    keys = ("nll", "kl", "cosine", "words", "degenerate", "refusal")
    tables = {arm: _per_target(job, rows, keys) for arm, rows in job.damage.items()}
    reference = {"ppl_ratio": "none", "ppl_ratio_prompt": "prompt"}
    base = {
        name: tables[arm].groupby(["sample", "emotion"])["nll"].mean()
        for name, arm in reference.items()
        if arm in tables
    }
    for arm, frame in tables.items():
        for row in frame.to_dict("records"):
            place = {"arm": arm, **_place(row)}
            for name, nll in base.items():
                yield place | {"metric": name, "value": row["nll"] - nll[row["sample"], row["emotion"]]}
            for key, metric in (("kl", "kl"), ("cosine", "cosine"), ("words", "length")):
                yield place | {"metric": metric, "value": row[key]}
            for key in ("degenerate", "refusal"):
                yield place | {"metric": key, "value": row[key]}


def own_values(job: Job) -> dict[str, dict[str, list[float | None]]]:
    """Return {metric: {arm: value of every reply}} of the metrics of a user's own (`emo.measure.reply_metrics`)."""
    return {one.metric.name: values_of(job.store, one, job.replies) for one in load_metrics(job.config)}


def _own_rows(job: Job) -> Iterator[dict[str, Any]]:
    for name, arms in own_values(job).items():
        for arm, values in arms.items():
            rows = [reply | {name: value} for reply, value in zip(job.replies[arm], values, strict=True)]
            for row in _per_target(job, rows, (name,)).to_dict("records"):
                yield {"arm": arm, "metric": name, "value": row[name], **_place(row)}


def _place(row: dict[str, Any]) -> dict[str, Any]:
    return {key: row[key] for key in ("sample", "emotion", "seed")}


def estimates(job: Job, frame: pd.DataFrame) -> dict[str, dict[str, Estimate]]:
    """Return {arm: {metric: estimate}}; a metric has a suffix ``/emotion`` or ``/emotion/valence`` for a part."""
    draws, seed = job.config.evaluator.bootstrap, job.config.seed
    out: dict[str, dict[str, Estimate]] = {arm.name: {} for arm in job.arms}
    cuts: list[list[str]] = [[], ["emotion"], ["emotion", "valence"]]
    for cut in cuts:
        for key, part in frame.groupby(["arm", "metric", *cut], sort=False):
            arm, metric, *rest = key
            change = np.exp if metric in ("ppl_ratio", "ppl_ratio_prompt") else None
            values = part["value"].to_numpy(dtype=float)
            name = metric_key(metric, *rest)
            scenarios, drawn = part["scenario"].to_numpy(), repeats(part)
            if metric == "delta_s_rel":
                found = estimate_ratio(values, part["base"].to_numpy(dtype=float), scenarios, draws, seed, drawn)
            else:
                found = estimate(values, scenarios, draws, seed, change, drawn)
            if found.n:
                out[arm][name] = found
            if metric == "ppl_ratio" and not rest and found.n:  # perplexity alone misleads: its tail beside it
                tail = float(np.exp(np.nanquantile(_absolute_nll(job, arm), 0.95) - _mean_nll(job)))
                out[arm]["ppl_ratio_p95"] = Estimate(tail, None, None, found.n)
    return out


def repeats(frame: pd.DataFrame) -> Repeats:
    """Return which draw and which pair of sample and emotion each row of a long table is."""
    return Repeats(frame["draw"].to_numpy(), frame["pair"].to_numpy())


def side_by_side(frame: pd.DataFrame, arm: str, other: str) -> pd.DataFrame:
    """Return the values of two arms on the same samples and emotions, columns ``value`` and ``against``.

    One metric's part of a long table. Where one of the arms has several draws, each of them stands beside the one value
    of the other; ``draw`` tells them apart.
    """
    own = frame[frame["arm"] == arm][["pair", "scenario", "draw", "value"]]
    rival = frame[frame["arm"] == other][["pair", "draw", "value"]].rename(columns={"value": "against"})
    both = own.merge(rival, on="pair", how="left", suffixes=("", "_against"))
    both["draw"] = both.groupby(["draw", "draw_against"], sort=False).ngroup()
    return both


def _absolute_nll(job: Job, arm: str) -> np.ndarray:
    return np.array([row["nll"] for row in job.damage[arm]], dtype=float)


def _mean_nll(job: Job) -> float:
    return float(np.nanmean(_absolute_nll(job, "none")))


def _rivals(job: Job, arm: Arm, metric: str) -> list[Arm]:
    """Return what a target arm is compared with: controls of its own strength, and unedited arms.

    Projections of ablated arms are measured from the emotion prompt, so only arms of that kind are comparable.
    """
    if not is_target(job, arm) or not arm.steered:
        return []
    units = kind_of(job.config).edits in ("neurons", "heads", "own")
    unedited = [] if units and metric == "delta_s_last" else [arm.reference] if units else ["none", "prompt"]
    controls = [o for o in job.arms if o.steered and not is_target(job, o) and o.settings in ((), arm.settings)]
    return [*(o for o in job.arms if o.name in unedited), *controls]


def is_drawn(arm: Arm) -> bool:
    """Whether an arm is a sample of those that might have stood in its place."""
    return arm.kind.removeprefix("prompt_") in ("random", "shuffled", *DRAWN_UNITS, *DRAWN_CIRCUITS)


def is_target(job: Job, arm: Arm) -> bool:
    """Whether an arm is what the job is about: neither unedited nor a control."""
    kind = kind_of(job.config)
    return kind.controlled and arm.kind in (kind.name, kind.beside)


def layer_bands(job: Job) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return, per arm, delta-s by block with its interval over scenarios: mean, lo, hi, each (l,)."""
    place = clusters_of(job.splits.test)
    draws, seed = job.config.evaluator.bootstrap, job.config.seed
    bands = {}
    for arm in job.arms:
        if arm.kind == "none":
            continue
        shift = projection_shift(job, arm.name).mean(1)  # (k, n, l)
        k, n, layers = shift.shape
        scenarios = [place[s.id] for s in job.splits.test] * k
        drawn = Repeats([i // n * is_drawn(arm) for i in range(k * n)], [i % n for i in range(k * n)])
        flat = _finite(shift).reshape(k * n, layers)
        found = [estimate(flat[:, layer], scenarios, draws, seed, repeats=drawn) for layer in range(layers)]
        value, lo, hi = np.array([x[:3] for x in found], dtype=float).T  # None, not measured, is nan
        bands[arm.name] = (value, lo, hi)
    return bands


def comparisons(job: Job, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return every edited target arm against what it edits and its controls: paired difference, interval, p, Holm.

    On clean accuracy where replies are labelled, else on the margin, the match or the projection at the last block:
    outcomes that the vectors do not define. p is that of sign flips of scenario means (methods 4.4).
    """
    measured = set(frame["metric"])
    metric = next(m for m in ("clean_accuracy", "logprob_margin", "match", "delta_s_last") if m in measured)
    table = frame[frame["metric"] == metric]
    rows: list[dict[str, Any]] = []
    for arm in job.arms:
        for other in _rivals(job, arm, metric):
            both = side_by_side(table, arm.name, other.name)
            found = paired(
                both["value"].to_numpy(dtype=float), both["against"].to_numpy(dtype=float), both["scenario"].to_numpy(),
                job.config.evaluator.bootstrap, job.config.seed, repeats(both),
            )  # fmt: skip
            rows.append(
                {"arm": arm.name, "against": other.name, "metric": metric, **found.difference.to_dict(), "p": found.p}
            )
    for row, adjusted in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = adjusted
    return rows
