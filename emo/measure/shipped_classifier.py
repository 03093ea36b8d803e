"""The offline classifier as the project ships it, so that no first run has to fit it (a minute on two cores).

What is shipped carries the address of the classifier that it is: with other texts, settings or encoder the addresses
differ, and it is fitted anew into the store, as always for other lists of emotions. Everyone then also has the same
labels to the last bit, whatever their processor.

    python -m emo.measure.classifier      fits it and writes the files (after a change of the corpus)
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from safetensors.torch import load_file, save_file

from emo.core.store import Artifact

FOLDER = Path(__file__).parents[1] / "data" / "classifier"
WEIGHTS, NGRAMS, REPORT = "weights.safetensors", "ngrams.jsonl.gz", "report.json"


def shipped(key: str) -> Artifact | None:
    """Return the shipped classifier where ``key`` is its address; None for every other one."""
    report = FOLDER / REPORT
    meta = json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {}
    if meta.pop("address", None) != key:
        return None
    lines = gzip.decompress((FOLDER / NGRAMS).read_bytes()).decode().splitlines()
    return Artifact(load_file(FOLDER / WEIGHTS), [json.loads(line) for line in lines], meta)


def ship(made: Artifact, key: str) -> None:
    """Write a fitted classifier as the shipped one."""
    FOLDER.mkdir(exist_ok=True)
    save_file(made.tensors, FOLDER / WEIGHTS)
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in made.rows)
    (FOLDER / NGRAMS).write_bytes(gzip.compress(lines.encode(), mtime=0))
    text = json.dumps({"address": key, **made.meta}, indent=1, sort_keys=True)
    (FOLDER / REPORT).write_text(f"{text}\n", encoding="utf-8")
