"""What a stand-in for W&B was told."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from wandb.util import get_core_path


class Seen:
    """One run, read back by the command behind ``wandb leet inspect``."""

    def __init__(self, folder: Path) -> None:
        [file] = folder.glob("run-*.wandb")
        words = [get_core_path(), "leet", "inspect", "--no-observability", "--json", "--run-file", file, folder.parent]
        self.folder, self.records = folder, []
        end = time.monotonic() + 10
        while not self.all("exit") and time.monotonic() < end:  # W&B writes on for some milliseconds after a run
            text = subprocess.run(list(map(str, words)), check=False, capture_output=True, text=True).stdout
            self.records = [json.loads(line) for line in text.splitlines()]
        [self.run] = self.all("run")
        self.config = self.run["config"]["update"]
        self.history = [record["item"] for record in self.all("history")]
        self.summary = {k: v for record in self.all("summary") for k, v in record.get("update", {}).items()}
        assert self.all("exit")[-1]["exit_code"] == 0

    def all(self, kind: str) -> list[dict[str, Any]]:
        """Return the records of a kind."""
        return [record[kind] for record in self.records if record["type"] == kind]

    def table(self, key: str) -> dict[str, Any]:
        """Return a table, ``{columns, data}``."""
        return json.loads((self.folder / "files" / self.summary[f"{key}.path"]).read_text())


def seen(root: Path) -> list[Seen]:
    """Return every run below ``root`` by name."""
    return sorted((Seen(path) for path in (root / "wandb").glob("*run-*")), key=lambda s: s.run["display_name"])
