"""What one job finds on the extraction split: directions, scores of units, importance of sublayers, a circuit.

Every stage is kept under the address of all that it depends on; `emo.pipeline.scenario` measures with it.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from typing import Any

from torch import Tensor

from emo.config.read_keys import ASSEMBLY_KEYS, IMPORTANCE_KEYS
from emo.core.sealed import digest
from emo.core.store import Artifact
from emo.core.types import Site
from emo.data.scenarios import spread
from emo.edit.banks import SUBLAYER, Bank, CircuitBank, Found, UnitBank
from emo.edit.base import random_directions
from emo.find.assembly import DELTAS, assemble
from emo.find.attribution import attribute
from emo.find.circuit import SITES, Circuit, Shape
from emo.find.directions import ATTN, MLP, Shuffled
from emo.find.extraction import accepted, extract, probe_states
from emo.find.reference import Reference, reference
from emo.find.sublayer_importance import mean_norms, sublayer_importance
from emo.find.update_gain import update_gains
from emo.measure.classifier import label_rows
from emo.measure.encoder import encoder_folder, run_on
from emo.measure.labels import check_labels
from emo.model.fingerprint import fingerprint
from emo.model.lm import LM
from emo.model.load import load
from emo.model.prompts import prompt_ids
from emo.model.size import count_parameters
from emo.pipeline.addresses import Addresses

GAIN_PROMPTS = 16  # extraction prompts on which it is read what norms make of a push: they hardly differ


class Extracted(Addresses):
    """The stages that read the extraction split."""

    def check(self) -> None:
        """Check what the job needs from this machine beyond the model, before anything runs.

        Raises:
            UserError: the sentence encoder is not installed, or what labels replies is not there.
        """
        if self.config.evaluator.name != "projection":
            encoder_folder()
            run_on(self.spec.device)
        check_labels(self.config, self.store)
        if self.saved_circuit is not None:
            self._check_saved(self.saved_circuit)

    def _check_saved(self, circuit: Circuit) -> None:
        allowed = self.config.circuit.allow_other_weights
        circuit.check(Shape.of(self.lm), fingerprint(self.lm), allowed)

    @property
    def lm(self) -> LM:
        """The model; its weights are read on first use, once per process."""
        return load(self.spec)

    @property
    def parameters(self) -> int:
        """Number of the model's weights; none is read for it."""
        return count_parameters(self.spec)

    def label(self, replies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the classifier's labels of replies."""
        return label_rows(self.store, self.names, replies, self.config.evaluator.encoder)

    @cached_property
    def directions(self) -> Artifact:
        """Tensors v (e,l,2,d) and norms (e,l,2); see `emo.find.extraction.Found`."""
        return self._one_pass["directions"]

    @property
    def probe_states(self) -> Tensor:
        """States (g,e,l,d) of some extraction groups."""
        return self._one_pass["probe_states"].tensors["states"]

    @property
    def probe_scenarios(self) -> list[str]:
        """The scenario of each group of `probe_states`; empty where an earlier version stored them without."""
        of = {sample.id: sample.scenario_id for sample in self.splits.extract}
        return [of[row["sample"]] for row in self._one_pass["probe_states"].rows]

    @property
    def shuffled(self) -> Shuffled | None:
        """The directions of permuted labels; None where the job asks for none, or nothing is left of them."""
        if not self.asks_for_shuffled:
            return None
        made = Shuffled(**self._one_pass["shuffled"].tensors)
        return None if made.cosine[..., MLP].isnan().any() else made

    @cached_property
    def _one_pass(self) -> dict[str, Artifact]:
        """What is read from the extraction prompts; all that is missing is computed in one pass over them."""
        keys = {"directions": self.directions_address, "probe_states": self.probes_address}
        configs: dict[str, dict[str, Any]] = {
            "directions": {"directions": asdict(self.config.directions), "groups": len(self.splits.extract)},
            "probe_states": {"groups": self.config.directions.probe_groups},
        }
        if self.asks_for_shuffled:
            keys["shuffled"], configs["shuffled"] = self.shuffled_address, {"draws": self.shuffles}
        draws = self.shuffles if self.asks_for_shuffled else 0

        def compute(missing: list[str]) -> dict[str, Artifact]:
            given = self.lm, self.config, self.splits.extract, self.label
            if missing == ["probe_states"]:
                return {"probe_states": probe_states(*given)}
            found = extract(*given, draws, f"{self.spec.id}@{self.spec.weights}")
            return {"directions": found.directions, "shuffled": found.shuffled, "probe_states": found.probes}

        return self.store.get_or_compute_stages(keys, configs, compute)

    @cached_property
    def attribution(self) -> Artifact:
        """Tensors neurons (e,l,f), heads (e,l,h), both as halves (2,...), delta_mlp (e,l,f), delta_attn (e,l,h*p)."""
        c = self.config

        def compute() -> Artifact:
            v, counted = self.directions.tensors["v"], accepted(self.directions)
            return attribute(self.lm, c, self.splits.extract, v, counted, c.circuit.delta_baseline)

        how = {"score_at": c.attribution.score_at, "delta_baseline": c.circuit.delta_baseline}
        config = {"attribution": how, "groups": len(self.splits.extract)}
        return self.store.get_or_compute("attribution", self.attribution_address, config, compute)

    @cached_property
    def bank(self) -> Bank:
        """The vectors that arms add."""
        sublayer = ATTN if self.on == "heads" else MLP
        v = self.directions.tensors["v"][:, :, sublayer].contiguous()
        permuted = self.shuffled
        shuffled = v[None, :0] if permuted is None else permuted.v[:, :, :, sublayer].contiguous()
        control = self.config.control
        seeds = max(control.seeds, control.score_seeds)
        drawn = random_directions(seeds, v.shape[1], v.shape[2], self.config.seed)
        return Bank(v, shuffled, drawn, Site(self.bank_site or Site.RESID_POST))

    @cached_property
    def units(self) -> UnitBank | None:
        """What arms on neurons or heads choose from; None for other jobs."""
        if self.on is None:
            return None
        found, heads = self.attribution.tensors, self.on == "heads"
        kind = "heads" if heads else "neurons"
        delta = found["delta_attn" if heads else "delta_mlp"]
        width = delta.shape[2] // found[kind].shape[2]
        return UnitBank(Site.HEAD if heads else Site.NEURON, found[kind], delta, found[f"{kind}_size"], width)

    @cached_property
    def reference(self) -> Reference:
        """The reference basis of the directions."""
        return reference(self.directions.tensors["v"], self.stable_layers)

    @cached_property
    def importance(self) -> Artifact:
        """Tensors values (a,e,l,2) importance of sublayers per alpha, sigma (l,2) or (e,l,2), norm (l,2)."""
        c = self.config

        def compute() -> Artifact:
            v, how = self.directions.tensors["v"], c.circuit
            prompts = prompt_ids(self.lm, c.elicitation, self.splits.extract, None)
            found = sublayer_importance(
                self.lm, prompts, v, self.reference, how.push_sizes, c.batch_size, how.sigma,
                how.importance_at,
                asked=self._asked() if how.sigma == "residual" else None,
            )  # fmt: skip
            return Artifact({key: x.contiguous() for key, x in found._asdict().items()})

        config = {key: value for key, value in asdict(c.circuit).items() if key in IMPORTANCE_KEYS}
        return self.store.get_or_compute("importance", self.importance_address, config, compute)

    @cached_property
    def rms(self) -> Tensor:
        """Mean root mean square (l,) of the unedited resid_post, last token of the neutral extraction prompts."""
        address = self.address("rms", samples=digest(self.splits.extract))

        def compute() -> Artifact:
            prompts = prompt_ids(self.lm, self.config.elicitation, self.splits.extract, None)
            [norms] = mean_norms(self.lm, prompts, [Site.RESID_POST], self.config.batch_size, "size of states")
            return Artifact({"rms": (norms * self.lm.d**-0.5).float()})

        return self.store.get_or_compute("rms", address, {}, compute).tensors["rms"]

    def _asked(self) -> list[list[list[int]]]:
        """Return, per emotion, the prompts of its accepted samples."""
        counted = accepted(self.directions)
        own = [[s for s in self.splits.extract if (s.id, name) in counted] for name in self.names]
        pairs = zip(self.names, own, strict=True)
        return [prompt_ids(self.lm, self.config.elicitation, samples, name) for name, samples in pairs]

    @cached_property
    def circuit(self) -> Circuit:
        """The circuit that is applied: the saved one, or assembled from what was found."""
        if self.saved_circuit is not None:
            return self.saved_circuit
        c = self.config
        how = {key: value for key, value in asdict(c.circuit).items() if key in (*ASSEMBLY_KEYS, *IMPORTANCE_KEYS)}
        values = self.importance.tensors["values"].mean(0)
        provenance: dict[str, Any] = {
            "model": {"name": c.model.name, "id": self.spec.id, "commit": self.spec.weights, "dtype": self.spec.dtype},
            "circuit": how | {"delta_baseline": c.circuit.delta_baseline, "layers": list(self.circuit_layers)},
            "directions": asdict(c.directions), "elicitation": c.elicitation.template, "dataset": c.dataset.name,
            "groups": len(self.splits.extract), "data": self.splits.digest, "address": self.circuit_address,
            "importance": {name: values[e].tolist() for e, name in enumerate(self.names)},
        }  # fmt: skip
        shape, weights = Shape.of(self.lm), fingerprint(self.lm)
        found = self.attribution.tensors
        return assemble(c.circuit, self.names, found, values, self.circuit_layers, shape, weights, c.seed, provenance)

    @cached_property
    def circuits(self) -> CircuitBank | None:
        """The circuit with what its controls need; None for other jobs."""
        if not self.has_circuit:
            return None
        return CircuitBank(
            self.circuit,
            lambda kind: self.attribution.tensors[DELTAS[kind]],
            lambda: self.importance.tensors["norm"],
            self._weight,
        )

    @cached_property
    def update_gains(self) -> Tensor | None:
        """What norms behind sublayers make of a push, (l, 2, d); None where there are none."""
        some = [self.splits.extract[i] for i in spread(self.splits.extract, GAIN_PROMPTS)]
        prompts = prompt_ids(self.lm, self.config.elicitation, some, None)
        return update_gains(self.lm, prompts, self.config.batch_size)

    def _weight(self, kind: str, layer: int) -> Tensor:
        """Return what turns a change of a kind's units into a change of what is added, (d, w)."""
        weight, gains = self.lm.projection(SITES[kind], layer)[0], self.update_gains
        if gains is None:
            return weight
        return weight.float() * gains[layer, SUBLAYER[kind]].to(weight.device)[:, None]

    @cached_property
    def found(self) -> Found:
        """All that arms are compiled from."""
        return Found(self.bank, self.config.seed, self.units, self.circuits)
