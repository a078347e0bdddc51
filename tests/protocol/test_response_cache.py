"""The cache of answers: bounded by number, bytes and time, against a dumb twin that scans a list."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.response_cache import ResponseCache

KEYS = st.sampled_from([b"a", b"b", b"c", b"d"])
PUT = st.tuples(st.just("put"), KEYS, st.integers(0, 6), st.integers(0, 5))
GET = st.tuples(st.just("get"), KEYS, st.just(0), st.just(0))


class Twin:
    """What the cache is, written down as a list in the order of use."""

    def __init__(self, entries: int, most_bytes: int) -> None:
        self.entries, self.most_bytes = entries, most_bytes
        self.rows: list[tuple[bytes, str, int, float]] = []

    def get(self, key, now):
        found = [row for row in self.rows if row[0] == key]
        self.rows = [row for row in self.rows if row[0] != key]
        self.rows += [row for row in found if row[3] > now]
        return next((row[1] for row in found if row[3] > now), None)

    def put(self, key, value, size, until):
        self.rows = [row for row in self.rows if row[0] != key]
        if size <= self.most_bytes:
            self.rows.append((key, value, size, until))
        while len(self.rows) > self.entries or sum(row[2] for row in self.rows) > self.most_bytes:
            self.rows.pop(0)


@given(st.lists(PUT | GET, max_size=40), st.integers(1, 3), st.integers(1, 9))
def test_it_keeps_what_its_twin_keeps(moves, entries, most_bytes):
    cache, twin = ResponseCache(entries, most_bytes), Twin(entries, most_bytes)
    for now, (what, key, size, seconds) in enumerate(moves):
        if what == "put":
            for one in (cache, twin):
                one.put(key, str(now), size, float(now + seconds))
        else:
            assert cache.get(key, float(now)) == twin.get(key, float(now))
        assert (len(cache), cache.size) == (len(twin.rows), sum(row[2] for row in twin.rows))
        assert len(cache) <= entries
        assert cache.size <= most_bytes


def test_an_answer_is_given_until_its_time_is_over_and_not_at_that_instant():
    cache = ResponseCache()
    cache.put(b"a", "x", 1, 10.0)
    assert (cache.get(b"a", 9.9), cache.get(b"a", 10.0), len(cache)) == ("x", None, 0)
