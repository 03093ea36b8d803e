"""The files of unfinished artifacts: whatever a kill or a changed bit leaves of them, no wrong row comes back."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emo.core.partial_log import Log, Sums, named

KEY = "a" * 64
Rows = list[tuple[str, object]]
VALUES = st.none() | st.integers() | st.floats(allow_nan=False).filter(lambda x: abs(x) < 1e300) | st.text()
PIECES = st.lists(st.lists(st.tuples(st.integers(0, 30), VALUES), max_size=4), min_size=1, max_size=5)


def written(folder: Path, pieces: list[Rows], key: str = KEY) -> Log:
    """Write pieces as one process does."""
    log = Log(folder, key)
    for rows in pieces:
        log.append(rows, 0.5)
    return log


def own(pieces: list[list[tuple[int, object]]], writer: int) -> list[Rows]:
    return [[(named("x", [writer, i]), {"value": value, "of": i}) for i, value in rows] for rows in pieces]


@settings(max_examples=40, deadline=None)
@given(PIECES, PIECES, st.randoms(use_true_random=False))
def test_torn_or_changed_pieces_are_missing_and_the_others_are_there(
    first: list[list[tuple[int, object]]], second: list[list[tuple[int, object]]], draw: random.Random
) -> None:
    """Two writers; the file of one is cut, or one bit of it is changed: what comes back is what was written."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, two = own(first, 1), own(second, 2)
        path = written(folder, one)._own
        written(folder, two)
        valid = {(key, str(value)) for piece in one + two for key, value in piece}
        safe = {key for piece in two for key, _ in piece}
        whole = Log(folder, KEY).rows()
        assert set(whole) == {key for piece in one + two for key, _ in piece}
        content = bytearray(path.read_bytes())
        if draw.random() < 0.5:
            del content[draw.randrange(len(content)) :]
        else:
            content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(content))
        again = Log(folder, KEY)
        found = again.rows()
        assert safe <= set(found) and all((key, str(value)) in valid for key, value in found.items())
        again.append([(named("x", "new"), 1)], 0.5)  # goes on behind what is torn
        assert named("x", "new") in Log(folder, KEY).rows()


def test_a_line_behind_half_a_line_counts(tmp_path: Path) -> None:
    """A full disk took half of a piece; the same process writes the next one when there is room again."""
    log = written(tmp_path, [[("1", 1)], [("2", 2)]])
    log._own.write_bytes(log._own.read_bytes()[:-9])
    log.append([("3", 3)], 0.5)
    assert Log(tmp_path, KEY).rows() == {"1": 1, "3": 3}


def test_another_address_is_not_read(tmp_path: Path) -> None:
    """Folders are named by the first 16 digits only."""
    written(tmp_path, [[("1", 1)]])
    assert Log(tmp_path, KEY[:-1] + "b").rows() == {}


def test_tensors_come_back_to_the_last_bit(tmp_path: Path) -> None:
    x = torch.tensor([[1 / 3, float("nan"), float("inf")]])
    written(tmp_path, [[("1", {"proj": x, "empty": torch.zeros(0, 2)}), ("2", x[0].double())]])
    found = Log(tmp_path, KEY)
    rows = found.rows()
    assert rows["1"]["proj"].numpy().tobytes() == x.numpy().tobytes() and rows["1"]["empty"].shape == (0, 2)
    assert rows["2"].dtype == torch.float64 and found.spent_s == 0.5


def test_changed_sums_are_not_used(tmp_path: Path) -> None:
    log, draw = Log(tmp_path, KEY), random.Random(0)
    for k in range(60):
        log.keep_sums("x", Sums({"total": torch.arange(4.0) + k}, {0, k}))
        kept = log.sums("x")
        assert kept is not None and kept.done == {0, k} and kept.tensors["total"][1] == k + 1
        path = draw.choice(sorted(path for path in tmp_path.rglob("*") if path.is_file()))
        content = bytearray(path.read_bytes())
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(bytes(content))
        assert log.sums("x") is None
    log.drop()
    assert not list(tmp_path.iterdir())
