"""The notebook runs from its first cell to its last, and what is shown in it is small and of no machine."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pytest

from emo.config.check import REPOSITORY

TOUR = REPOSITORY / "docs" / "notebook" / "tour.ipynb"
MOST = 30  # cells
BYTES = 300_000  # of the file, pictures and tables together
MACHINE = re.compile(r"/(?:home|root|tmp|work|Users|mnt|opt)/|[A-Z]:\\\\")
TINY = (
    "model=tiny_llama dataset.limit=2 generation.max_new_tokens=4 elicitation.judge=none "
    "evaluator.bootstrap=20 device=cpu paths.outputs={}"
)


def cells(kind: str) -> list[dict[str, Any]]:
    """Return the cells of one kind."""
    found = json.loads(TOUR.read_text(encoding="utf-8"))
    return [cell for cell in found["cells"] if cell["cell_type"] == kind]


def test_it_is_short_and_of_no_machine() -> None:
    """At most 30 cells, which ran in their order without an error; nothing in it names a folder of somebody's."""
    said = TOUR.read_text(encoding="utf-8")
    assert len(cells("code")) + len(cells("markdown")) <= MOST
    assert len(said.encode()) < BYTES
    assert not MACHINE.findall(re.sub(r'"image/png": "[^"]*"', "", said))
    ran, code = [cell["execution_count"] for cell in cells("code")], len(cells("code"))
    assert ran == [*range(1, code + 1)]
    outputs = [output for cell in cells("code") for output in cell["outputs"]]
    assert all(output["output_type"] in ("execute_result", "display_data", "stream") for output in outputs)
    assert not any(output.get("name") == "stderr" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 3


def test_its_links_lead_somewhere() -> None:
    """Those of its texts, from where it lies."""
    texts = "".join("".join(cell["source"]) for cell in cells("markdown"))
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)\)", texts)
    assert len(links) > 3 and all((TOUR.parent / link).exists() for link in links)


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell by cell in one namespace, on a model of random weights; the last expression of each can be shown."""
    monkeypatch.setenv("EMO_TOUR", TINY.format(tmp_path / "outputs"))
    monkeypatch.chdir(tmp_path)
    with mpl.rc_context({"backend": "agg"}):
        names: dict[str, Any] = {}
        for number, cell in enumerate(cells("code"), start=1):
            try:
                shown = run("".join(cell["source"]), names)
            except Exception as error:
                pytest.fail(f"cell {number}: {type(error).__name__}: {error}\n{''.join(cell['source'])}")
        plt.close("all")
    assert shown is True, "the circuit of the files writes the job's reply"
    assert (tmp_path / "outputs" / "tour" / "export" / "gguf" / "anger.gguf").is_file()


def run(source: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does, and return what its last expression is, rendered once where it can be."""
    body = ast.parse(source).body
    last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), "cell", "exec"), names)
    if last is None:
        return None
    value = eval(compile(last, "cell", "eval"), names)
    render = getattr(value, "_repr_html_", None)
    assert render is None or render() is None or len(str(render())) > 10
    return value
