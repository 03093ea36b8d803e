"""Layer ranges: every form, and every error says how many blocks the model has."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from emo.config.layers import THIRDS, check_layers, parse_layers
from emo.core.errors import UserError

depths = st.integers(1, 200)


@pytest.mark.parametrize(
    ("spec", "n_layers", "blocks"),
    [
        ("0.75-0.92", 28, range(21, 26)),  # the two examples of the methods
        ("0.39-0.72", 28, range(11, 21)),
        ("11-20", 28, range(11, 21)),
        ("0.1-0.3", 10, range(1, 4)),  # 3/10 <= 0.3 exactly, not in binary
        ("0.0-1.0", 5, range(5)),
        (".5-1", 4, range(2, 4)),
        (7, 8, [7]),
        ("7", 8, [7]),
        (" 3 - 4 ", 8, [3, 4]),
        ([5, 3], 8, [3, 5]),
        (OmegaConf.create([3, 5]), 8, [3, 5]),
        ("all", 3, range(3)),
    ],
)
def test_each_form_of_a_layer_range_names_its_blocks(spec: object, n_layers: int, blocks: list[int]) -> None:
    assert parse_layers(spec, n_layers) == tuple(blocks)
    check_layers(spec)


@given(n=depths)
def test_thirds_partition_the_blocks(n: int) -> None:
    thirds = []
    for name in THIRDS:
        try:
            thirds.append(parse_layers(name, n))
        except UserError:  # fewer than three blocks: a third may be empty
            assert n < 3
    assert sum(thirds, ()) == tuple(range(n))
    assert max(map(len, thirds)) - min(map(len, thirds)) <= 1


@given(data=st.data(), n=depths)
def test_block_ranges_include_both_ends(data: st.DataObject, n: int) -> None:
    first = data.draw(st.integers(0, n - 1))
    last = data.draw(st.integers(first, n - 1))
    blocks = parse_layers(f"{first}-{last}", n)
    assert blocks == tuple(range(first, last + 1))
    assert parse_layers(list(blocks), n) == blocks  # a list of what came out means the same
    assert parse_layers(first, n) == parse_layers(str(first), n) == (first,)


@given(lo=st.integers(0, 100), hi=st.integers(0, 100), n=depths)
def test_depth_ranges_follow_the_formula(lo: int, hi: int, n: int) -> None:
    expected = tuple(block for block in range(n) if lo * n <= 100 * block <= hi * n)
    spec = f"{lo / 100:.2f}-{hi / 100:.2f}"
    if expected:
        assert parse_layers(spec, n) == expected
    else:
        with pytest.raises(UserError, match=f"the model has {n} blocks"):
            parse_layers(spec, n)


MALFORMED = [
    *("20-11", "0.7-0.3", "1.2-1.5", "0.5-2", "midle", "", "a-b", "3-", "-3", "1-2-3", "auto", "0.5", "٣"),
    *(0.5, True, None, -1, [], [1, 1], [1, "2"], [0.5], [True], {"a": 1}, float("nan"), b"11"),
]


@pytest.mark.parametrize("spec", MALFORMED)
def test_malformed_ranges_are_refused_with_and_without_a_model(spec: object) -> None:
    with pytest.raises(UserError, match=r"intervention\.layers=.*; type 11-20"):
        check_layers(spec)
    with pytest.raises(UserError, match="the model has 12 blocks"):
        parse_layers(spec, 12)


@pytest.mark.parametrize("spec", ["5-12", "12", 12, [0, 12], "0.51-0.52", "5-9999999999"])
def test_blocks_beyond_the_last_are_refused_once_the_model_is_known(spec: object) -> None:
    check_layers(spec)
    with pytest.raises(UserError, match=r"the model has 12 blocks \(0 to 11\)"):
        parse_layers(spec, 12)


def test_auto_only_where_it_is_allowed() -> None:
    check_layers("auto", auto=True)
    with pytest.raises(UserError, match="select"):
        check_layers("auto", key="intervention.select.layers")


def test_a_reversed_range_is_turned_round() -> None:
    with pytest.raises(UserError, match="11-20 is meant"):
        check_layers("20-11")
    with pytest.raises(UserError, match="did you mean middle"):
        check_layers("midle")
