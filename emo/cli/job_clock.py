"""How long a running job still takes: what ``task=plan`` would say of what is left, beside what is being done now.

Rates are those of the store (`emo.cli.rates`), of this model and kind of machine; how long a reply takes may also have
been measured in this job, on dev. Replies are taken to be as long as measured ones, so it says ``about``; where a stage
has no rate yet, ``at least``. What comes before the test split (directions, circuits) is in no forecast: while it runs,
its own progress is added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from emo.cli.forecast import Work, look, stages
from emo.cli.rates import Rate, Rates, duration, read_rates
from emo.config.schema import Config
from emo.core.console import EARLY
from emo.core.errors import UserError

FEWEST = 50  # replies whose time says something: a handful pays for a whole batch
LEAST = 1.0  # seconds that are worth telling
WORDS = {  # of a line of progress, and whose work it shows
    "replies": "replies",
    "projections": "projections",
    "margins": "margins",
    "perplexity": "damage",
    "KL": "damage",
    "classifier": "labels",
    "judge": "labels",
}


class JobClock:
    """A clock for `emo.core.console.timed`; looks at nothing before it is first asked."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._work: list[Work] = []
        self._there: Callable[[str, str], bool] = lambda *_: False
        self._rates = Rates(None, False, {})
        self._own: dict[str, Rate] = {}  # measured in this job, by stage
        self._looked = False

    def __call__(self, description: str, done: int, total: int, spent: float) -> str:
        """Return ``about 3 min left for the job``; nothing where nothing is known, or nothing is left."""
        if not self._looked or any(self._there(x.stage, x.key) for x in self._work if x.stage == "selection"):
            self._look()  # strengths that were chosen meanwhile decide the addresses of what follows
        part, _, what = description.rpartition(": ")
        stage = next((stage for word, stage in WORDS.items() if word in what), None)
        if stage == "replies" and done == total >= FEWEST:
            self._own = {stage: Rate(done, spent, 0, 0)}
        stage = "selection" if part == "dev" else stage
        left = [one for one in self._work if not self._there(one.stage, one.key)]
        rates = self._rates._replace(stages=self._own | self._rates.stages)
        found = time_left(left, rates, stage, done, total, spent)
        if found is None or found[0] <= LEAST:
            return ""
        return f"{'about' if found[1] else 'at least'} {duration((found[0], found[0]))} left for the job"

    def _look(self) -> None:
        first, self._looked = not self._looked, True
        try:
            job = look(self._config)
        except UserError:  # replies are judged where the model is not, and nothing else is known
            return
        self._work = [one for one in stages(job) if not one.there]
        self._there = job.store.there  # type: ignore[attr-defined]
        if first:
            self._rates = read_rates(job.store.root, job.store.made_by or {})


def time_left(
    work: Sequence[Work], rates: Rates, stage: str | None, done: int, total: int, spent: float
) -> tuple[float, bool] | None:
    """Return the seconds that a job still takes, and whether all of it is known; None: nothing is.

    Args:
        work: what of the forecast is not there yet.
        rates: measured ones.
        stage: whose work is being done now; None: none of the forecast.
        done: units of it.
        total: units of it in all.
        spent: seconds on it so far.
    """
    done = done if done >= EARLY * total else 0
    now = (total - done) * spent / done if done else 0.0
    spans = {name: rates.seconds([one for one in work if one.stage == name]) for name in {one.stage for one in work}}
    known = {name: span[0] for name, span in spans.items() if span is not None}
    if not known and (not spans or stage not in spans or not done):
        return None
    whole = len(known) == len(spans) or (
        len(known) == len(spans) - 1 and stage in spans and stage not in known and done > 0
    )
    rest = sum(seconds for name, seconds in known.items() if name != stage)
    # A stage may have several lines of progress: what its rate says is left beyond this one counts too.
    return rest + max(now, known.get(stage or "", 0.0) - spent), whole
