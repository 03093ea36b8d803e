"""A job in Python: the same words as on the command line, and what it finds as labelled tables (`emo.job`).

    job = emo.job("intervention=circuit model=smollm2_135m")
    job.ranking("anger")          # computed on demand, read from the store where it is there
    job.run()                     # as the command line runs it
    job.write(["My train was late."], "anger")

Nothing is computed before it is asked for, and only what is asked for: directions need one pass over the extraction
prompts, rankings another, importance and circuits more; replies are written by the job itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from emo.cli.composing import Composer
from emo.cli.run import run_job
from emo.config import error_text
from emo.config.check import to_config
from emo.config.choices import UNITS
from emo.config.read_keys import refuse_unread
from emo.config.schema import Config
from emo.core import console, home
from emo.core.errors import UserError, check_choice
from emo.core.frames import pd
from emo.data.scenarios import Sample
from emo.edit.banks import CircuitBank
from emo.find.circuit import Circuit
from emo.measure.batch import Measure
from emo.model.lm import LM
from emo.pipeline.scenario import Job
from emo.results.exported import export
from emo.results.table import load_results

SUBLAYERS = ("attention", "mlp")


class JobHandle:
    """One job on scenarios; tables carry emotions, blocks and units on their axes."""

    def __init__(self, line: str | Sequence[str]) -> None:
        """Compose and check the job of a line, as typed behind ``python run.py``.

        Raises:
            UserError: a word that the command line refuses, or a job on labelled texts.
        """
        words = shlex.split(line) if isinstance(line, str) else list(line)
        self.words = words
        self.config: Config = compose(words)
        if self.config.dataset.kind == "labelled":
            raise UserError("emo.job: jobs on labelled texts (masks) have no directions; type emo.load_results(FOLDER)")
        console.setup(self.config.console)
        self.stages = Job(self.config)

    def __repr__(self) -> str:
        return f"emo.job({shlex.join(self.words)!r})"

    @property
    def emotions(self) -> list[str]:
        """The emotions, in the order of every table."""
        return list(self.stages.names)

    @property
    def lm(self) -> LM:
        """The model, verified; loaded on first use."""
        return self.stages.lm

    @cached_property
    def directions(self) -> pd.DataFrame:
        """Unit directions: rows (emotion, layer, sublayer), a column per residual dimension (methods 1.3)."""
        v = self.stages.directions.tensors["v"]
        index = pd.MultiIndex.from_product(
            [self.emotions, range(v.shape[1]), SUBLAYERS], names=["emotion", "layer", "sublayer"]
        )
        return pd.DataFrame(v.flatten(0, 2).numpy(), index=index)

    def ranking(self, emotion: str, kind: str = "neurons") -> pd.DataFrame:
        """Return the units of an emotion, best first: columns layer, unit, score (methods 1.5, 1.6).

        Args:
            emotion: one of `emotions`.
            kind: neurons | heads.
        """
        check_choice("emotion", emotion, self.emotions)
        check_choice("kind", kind, UNITS)
        scores = self.stages.attribution.tensors[kind][self.emotions.index(emotion)]
        layers, units = scores.shape
        frame = pd.DataFrame({
            "layer": [layer for layer in range(layers) for _ in range(units)],
            "unit": [*range(units)] * layers,
            "score": scores.flatten().numpy(),
        })  # fmt: skip
        return frame.sort_values("score", ascending=False, kind="stable", ignore_index=True)

    @cached_property
    def importance(self) -> pd.DataFrame:
        """Importance of every sublayer, mean over pushes: rows emotion, columns (layer, sublayer) (methods 1.9)."""
        values = self.stages.importance.tensors["values"].mean(0)
        columns = pd.MultiIndex.from_product([range(values.shape[1]), SUBLAYERS], names=["layer", "sublayer"])
        index = pd.Index(self.emotions, name="emotion")
        return pd.DataFrame(values.flatten(1).numpy(), index=index, columns=columns)

    @cached_property
    def reference(self) -> pd.DataFrame:
        """The reference direction of every emotion: rows emotion, a column per residual dimension (methods 1.9)."""
        return pd.DataFrame(self.stages.reference.v_ref.numpy(), index=pd.Index(self.emotions, name="emotion"))

    @property
    def circuit(self) -> Circuit:
        """The circuit (methods 1.10); `circuit_units` is its table."""
        return self.stages.circuit

    @cached_property
    def circuit_units(self) -> pd.DataFrame:
        """The units of every emotion's circuit: columns emotion, kind, layer, unit, size (length of what is added)."""
        rows: list[dict[str, Any]] = []
        for kind in UNITS:
            for e, emotion in enumerate(self.circuit.emotions):
                part = self.circuit.part(kind, e)
                sizes = part.delta.norm(dim=-1).tolist()
                places = zip(part.layer.tolist(), part.unit.tolist(), sizes, strict=True)
                rows += [{"emotion": emotion, "kind": kind, "layer": x, "unit": u, "size": s} for x, u, s in places]
        return pd.DataFrame(rows, columns=["emotion", "kind", "layer", "unit", "size"])

    def export(self, folder: str | Path) -> Path:
        """Write directions, rankings and, of a job on a circuit, the circuit for other programs; returns the folder.

        `emo.results.exported` says which files; scale 1 of a control vector is the job's strength of steering: as
        given, or chosen on dev once the job has run.

        Args:
            folder: made where it is not there; files of these names are replaced.
        """
        export(self.stages, Path(folder).expanduser())
        return Path(folder)

    @property
    def folder(self) -> Path:
        """Where the result lies, or will."""
        return Path(self.config.paths.outputs) / self.config.name / self.stages.result_address[:16]

    def run(self) -> JobHandle:
        """Run the job as the command line does, unless it is done; returns itself.

        Raises:
            UserError: it failed while running.
        """
        if run_job(self.config, f"python run.py {shlex.join(self.words)}", job=self.stages, answer=False):
            raise UserError(f"{self!r} failed; its error stands in {self.folder / 'result.json'}")
        return self

    @property
    def results(self) -> pd.DataFrame:
        """The numbers of the job, run where it is not done: columns arm, metric, emotion, valence, value, ci_lo, ..."""
        return by_parts(load_results(self.run().folder))

    @property
    def replies(self) -> pd.DataFrame:
        """Every reply of every arm with its label and damage, run where it is not done; empty where none is written."""
        path = self.run().folder / "samples.jsonl"
        return pd.read_json(path, lines=True) if path.is_file() else pd.DataFrame()

    def write(
        self, prompts: str | Sequence[str], emotion: str, arm: str | None = None, circuit: Circuit | None = None
    ) -> list[str]:
        """Return replies under an arm of the job: its template, system line, decoding, strength, head tokens.

        Args:
            prompts: ids of test samples (``work_t00/positive``: the reply is the job's own), or texts of your own.
            emotion: one of `emotions`.
            arm: e.g. ``none``, ``steer``, ``random``; None: what the job is about.
            circuit: in place of the job's own, in an arm of a circuit.
        """
        check_choice("emotion", emotion, self.emotions)
        given = [prompts] if isinstance(prompts, str) else list(prompts)
        arms = {one.name: one for one in self.stages.arms}
        name = arm or next((n for n, one in arms.items() if one.kind == self.config.intervention.kind), "none")
        check_choice("arm", name, arms)
        known = {sample.id: sample for sample in self.stages.splits.test}
        samples = [known.get(text) or Sample(text, text, "", "", text, "") for text in given]
        found = self.stages.found
        if circuit is not None:
            if not isinstance(found.circuits, CircuitBank):
                raise UserError(f"{self!r}: its arms hold no circuit; type intervention=circuit")
            circuit.check(found.circuits.circuit.shape, found.circuits.circuit.weights)
            found = found._replace(circuits=replace(found.circuits, circuit=circuit.of(self.emotions)))
        rows = Measure(self.lm, self.config, samples, "sev_test", found, "write").reply([arms[name]])[name]
        own = [row["reply"] for row in rows if row["emotion"] in (emotion, None) and row["seed"] == 0]
        return [str(reply) for reply in own]


def by_parts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table of results with the parts of a metric's name in columns of their own."""
    parts = frame["metric"].str.split("/", expand=True).reindex(columns=range(3)).fillna("")
    at = frame.columns.get_loc("metric")
    made = frame.assign(metric=parts[0])
    made.insert(at + 1, "emotion", parts[1])
    made.insert(at + 2, "valence", parts[2])
    made.attrs = dict(frame.attrs)
    return made


def compose(words: Sequence[str]) -> Config:
    """Return the checked configuration of one job, as the command line composes it.

    Raises:
        UserError: what the command line refuses.
    """
    try:
        config = to_config(_composer().compose(words), list(words))
        refuse_unread(list(words), [config])
        return config
    except UserError:
        raise
    except Exception as error:
        if error_text.is_refusal(error):
            raise error_text.explain(error) from error
        raise


@cache
def _composer() -> Composer:
    with initialize_config_dir(str(home.CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        return Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))
