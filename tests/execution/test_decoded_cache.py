"""The cache of decoded records drops the least recently used entries when it is full."""

from beluga_graph.execution.decoded_cache import DecodedCache


def filled(bytes_max: int, *keys: str, size: int = 10) -> DecodedCache:
    cache = DecodedCache(bytes_max)
    for key in keys:
        cache.get_or_create(key, lambda key=key: [key])  # type: ignore[misc]
        cache.add_size(key, size)
    return cache


def is_kept(cache: DecodedCache, key: str) -> bool:
    created: list[str] = []
    cache.get_or_create(key, lambda: created.append(key) or [])
    return not created


def test_an_entry_is_created_once() -> None:
    cache = filled(100, "a")
    assert cache.get_or_create("a", list) == ["a"]


def test_the_least_recently_used_entry_is_dropped_first() -> None:
    cache = filled(20, "a", "b")
    cache.get_or_create("a", list)
    cache.get_or_create("c", list)
    cache.add_size("c", 10)
    assert is_kept(cache, "a")
    assert not is_kept(cache, "b")


def test_the_entry_in_use_stays_however_large_it_is() -> None:
    cache = filled(20, "a")
    cache.get_or_create("b", list)
    cache.add_size("b", 1000)
    assert is_kept(cache, "b")
    assert not is_kept(cache, "a")
