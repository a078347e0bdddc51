"""How long a call would wait in a domain, by what the gateway sees."""

from protocol.policies.head_room import HeadRoom

HIGH, NORMAL, LOW = 0, 1, 2


def line(*steps, at=0.0, priority=NORMAL) -> HeadRoom:
    room = HeadRoom()
    for step in steps:
        room.on_asked("main", step, priority, at)
    return room


def test_a_domain_that_nothing_is_known_of_has_room():
    assert HeadRoom().wait("main", NORMAL, 5.0) == 0.0


def test_a_429_closes_its_domain_until_its_hint_and_a_shorter_one_does_not_open_it():
    room = HeadRoom()
    room.on_throttled("main", 60.0)
    room.on_throttled("main", 10.0)
    assert [room.wait(domain, HIGH, now) for domain, now in (("main", 5.0), ("main", 61.0), ("other", 5.0))] == [
        55.0, 0.0, 0.0,
    ]  # fmt: skip


def test_a_line_that_does_not_move_is_as_long_as_it_has_stood():
    room = line("a", "b")
    room.on_asked("main", "a", NORMAL, 9.0)
    assert room.wait("main", NORMAL, 10.0) == 10.0
    room.on_left("main", "a")
    room.on_left("main", "b")
    room.on_left("other", "b")
    assert (room.wait("main", NORMAL, 10.0), len(room)) == (0.0, 0)


def test_a_line_that_moves_is_as_long_as_who_went_last_had_waited():
    room = line("a", "b", "c")
    room.on_granted("main", "a", 8.0)
    assert room.wait("main", NORMAL, 8.5) == 8.0
    room.on_granted("main", "b", 30.0)
    assert room.wait("main", NORMAL, 30.5) == 30.0
    room.on_granted("main", "c", 31.0)
    assert room.wait("main", NORMAL, 31.0) == 0.0


def test_who_waits_for_its_own_run_while_others_go_makes_no_line():
    room = line("of a run at its bounds")
    for now in range(100):
        room.on_asked("main", f"a{now}", NORMAL, float(now))
        room.on_granted("main", f"a{now}", now + 0.5)
    assert room.wait("main", NORMAL, 100.0) == 0.5


def test_who_is_urgent_does_not_wait_for_who_is_not():
    room = line("a", priority=LOW)
    assert [room.wait("main", priority, 40.0) for priority in (HIGH, NORMAL, LOW)] == [0.0, 0.0, 40.0]
    room.on_asked("main", "b", HIGH, 35.0)
    assert [room.wait("main", priority, 40.0) for priority in (HIGH, NORMAL, LOW)] == [5.0, 5.0, 40.0]
