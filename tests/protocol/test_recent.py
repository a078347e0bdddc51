"""A bounded memory agrees with a list that is cut, whatever is added and forgotten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from protocol.policies.recent import Recent

NAMES = "abcdef"


@given(st.integers(1, 4), st.lists(st.tuples(st.booleans(), st.sampled_from(NAMES)), max_size=40))
def test_the_last_names_are_remembered_and_no_others(most, moves):
    recent, twin = Recent(most), []
    for adds, name in moves:
        twin = [each for each in twin if each != name]
        if adds:
            recent.add(name)
            twin = [*twin, name][-most:]
        else:
            recent.discard(name)
        assert {each for each in NAMES if each in recent} == set(twin)
