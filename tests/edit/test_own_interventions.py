"""An intervention of a user's own: its file is in the address of its result, and it says which keys it reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.jobs import config

from emo.config.read_keys import refuse_unread
from emo.config.schema import Config
from emo.core.errors import UserError
from emo.core.targets import target_digest
from emo.pipeline.scenario import Job

MODULE = """
from emo.edit.base import Arm

class Nothing:
    reads = ("intervention.layers",)

    def __init__(self, strength=1.0):
        self.strength = strength

    def arms(self, job):
        return [Arm("nothing", "nothing")]
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / f"own_{tmp_path.name.replace('-', '_')}.py"
    path.write_text(MODULE)
    return path


def made(module: Path, *words: str) -> Config:
    target = f"intervention._target_={module.stem}.Nothing"
    return config(module.parent, "intervention.kind=nothing", target, "evaluator=projection", *words)


def test_a_changed_line_is_another_result(module: Path) -> None:
    """Also one that no arm's own file has: `arms` itself."""
    before = Job(made(module)).result_address
    assert Job(made(module)).result_address == before
    module.write_text(MODULE + "# changed")
    target_digest.cache_clear()  # a process that starts anew
    assert Job(made(module)).result_address != before


def test_what_it_does_not_read_is_refused(module: Path) -> None:
    chosen = made(module)
    refuse_unread(["intervention.layers=1-2"], [chosen])
    with pytest.raises(UserError, match="intervention.alpha=2: not read by intervention=nothing"):
        refuse_unread(["intervention.alpha=2"], [chosen])
    other = made(module, "intervention.alpha=2")
    assert Job(other).result_address == Job(chosen).result_address


def test_settings_that_it_does_not_take_are_refused(module: Path) -> None:
    assert Job(made(module, "+intervention.settings={strength: 2}")).intervention.strength == 2
    with pytest.raises(UserError, match="unexpected keyword argument 'strenght'"):
        Job(made(module, "+intervention.settings={strenght: 2}"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("class Nothing\n", "line 1: expected ':'"),
        ("import nothing_of_this_name", "No module named"),
        ("1 / 0", "ZeroDivis"),
    ],
)
def test_a_module_that_cannot_be_read_is_one_line(module: Path, text: str, line: str) -> None:
    module.write_text(text)
    with pytest.raises(UserError, match=line) as refused:
        Job(made(module))
    assert "\n" not in str(refused.value)


def test_a_name_that_is_not_there_is_answered_with_those_that_are(module: Path) -> None:
    target = f"intervention._target_={module.stem}.Nothin"
    with pytest.raises(UserError, match="has no Nothin, only Nothing; did you mean Nothing"):
        Job(config(module.parent, "intervention.kind=nothing", target, "evaluator=projection"))
