"""The registry refuses duplicates, explains missing names, and finds files by itself."""

import pytest

from embodied_mem import registry
from embodied_mem.errors import UsageError


@pytest.fixture
def scratch():
    yield "scratch-entry"
    registry.unregister("bench", "scratch-entry")


def test_register_get_and_meta(scratch):
    @registry.register("bench", scratch, family="test")
    def run():
        return 1

    assert registry.get("bench", scratch) is run
    assert registry.meta("bench", scratch) == {"family": "test"}
    assert scratch in registry.names("bench")


def test_duplicate_is_refused(scratch):
    registry.register("bench", scratch)(lambda: 1)
    with pytest.raises(UsageError, match="registered already"):
        registry.register("bench", scratch)(int)


def test_lazy_entry_is_imported_at_use(scratch):
    registry.register_lazy("bench", scratch, "json:dumps")
    assert registry.get("bench", scratch)([1]) == "[1]"
    with pytest.raises(UsageError, match="module:attribute"):
        registry.register_lazy("bench", "other", "json")


def test_missing_name_lists_and_names_the_nearest():
    with pytest.raises(UsageError, match=r"did you mean 'gru'.*available: .*lstm"):
        registry.get("memory", "gruu")
    with pytest.raises(UsageError, match="unknown registry kind 'memry'.*memory"):
        registry.names("memry")


@pytest.mark.parametrize("kind", sorted(registry.HOMES))
def test_every_entry_resolves(kind):
    for name in registry.names(kind):
        assert registry.get(kind, name) is not None
