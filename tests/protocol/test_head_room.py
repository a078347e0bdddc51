"""How long a call would wait in a domain, by what the gateway sees."""

from protocol.policies.head_room import HeadRoom


def test_a_domain_that_nothing_is_known_of_has_room():
    assert HeadRoom().wait("main", 5.0) == 0.0


def test_a_429_closes_its_domain_until_its_hint_and_a_shorter_one_does_not_open_it():
    room = HeadRoom()
    room.on_throttled("main", 60.0)
    room.on_throttled("main", 10.0)
    assert (room.wait("main", 5.0), room.wait("main", 61.0), room.wait("other", 5.0)) == (55.0, 0.0, 0.0)


def test_who_waits_longest_says_how_long_the_line_is():
    room = HeadRoom()
    room.on_asked("main", "a", 0.0)
    room.on_asked("main", "b", 8.0)
    room.on_asked("main", "a", 9.0)
    assert room.wait("main", 10.0) == 10.0
    room.on_left("main", "a")
    assert room.wait("main", 10.0) == 2.0
    room.on_left("main", "b")
    room.on_left("other", "b")
    assert room.wait("main", 10.0) == 0.0
