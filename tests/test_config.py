"""Configs are strict, override by dotted names, and survive JSON."""

from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embodied_mem import config
from embodied_mem.errors import UsageError


@dataclass(frozen=True)
class Inner:
    width: int = 8
    """Units."""
    scale: float = 1.0
    """Factor."""


@dataclass(frozen=True)
class Outer:
    inner: Inner = Inner()
    """Nested group."""
    name: str = "a"
    """Label."""
    sizes: tuple[int, ...] = (1, 2)
    """Sizes."""
    mode: Literal["x", "y"] = "x"
    """Mode."""
    limit: int | None = None
    """Limit."""
    extra: dict = field(default_factory=dict)
    """Free keys."""


def test_round_trip(tmp_path):
    outer = Outer(Inner(3, 0.5), "b", (4,), "y", 7, {"k": 1})
    assert config.from_dict(Outer, config.to_dict(outer)) == outer
    config.save(outer, tmp_path / "c.json")
    assert config.load(Outer, tmp_path / "c.json") == outer


def test_override_by_dotted_names():
    changed = config.override(Outer(), config.parse_overrides(["inner.scale=1e-4", "sizes=[3, 4]", "limit=5"]))
    assert changed.inner == Inner(8, 1e-4) and changed.sizes == (3, 4) and changed.limit == 5
    assert config.override(changed, {"limit": None}).limit is None


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"inner": {"widht": 1}}, "unknown key 'inner.widht'.*'width'"),
        ({"nam": "x"}, "did you mean 'name'"),
        ({"scale": 2.0}, "unknown key .scale. .did you mean .inner.scale."),
        ({"widht": 2}, "unknown key .widht. .did you mean .inner.width."),
        ({"inner": 3}, "expected a mapping"),
        ({"inner": {"width": "8"}}, "expected int for 'inner.width', got str"),
        ({"inner": {"width": True}}, "expected int"),
        ({"inner": {"width": 1.5}}, "expected int"),
        ({"mode": "z"}, "one of 'x', 'y'"),
        ({"sizes": [1, "a"]}, r"sizes\[1\]"),
        ({"limit": "many"}, "int or None"),
    ],
)
def test_bad_values_name_key_and_fix(values, message):
    with pytest.raises(UsageError, match=message):
        config.from_dict(Outer, values)


def test_field_docs():
    assert config.field_docs(Outer)["name"] == "Label."


@pytest.mark.parametrize("word", ["lr", "=3", ""])
def test_override_word_needs_key_and_value(word):
    with pytest.raises(UsageError, match="key=value"):
        config.parse_overrides([word])


@given(
    st.dictionaries(
        st.text(max_size=8), st.one_of(st.none(), st.integers(), st.text(max_size=5), st.lists(st.integers()))
    )
)
def test_any_mapping_gives_a_config_or_a_usage_error(values):
    try:
        assert isinstance(config.from_dict(Outer, values), Outer)
    except UsageError as error:
        assert str(error)


def test_a_key_of_a_nested_config_is_found_by_its_last_word():
    assert config.nearest_key(Outer, "scale", "train.") == " (did you mean 'train.inner.scale'?)"
    assert config.nearest_key(Outer, "nothing like it") == ""
