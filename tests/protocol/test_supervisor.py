"""Who gets a message: by role and correlation id, the least loaded for a new run, an answer at once when nobody can."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from protocol.errors import ErrorKind
from protocol.messages import AgentMessage
from protocol.policies.restarts import GiveUp, Restart, RestartLimit
from protocol.supervisor import NoRoute, Route, Supervisor, Wait


def message(role: str | None, run: str = "run", step: str = "0", content: str = "x") -> AgentMessage:
    return AgentMessage(
        sender="w", recipient=role, content=content, message_id=f"{run}/{step}", correlation_id=run, reply_to="w"
    )


def team(**pools: int) -> Supervisor:
    supervisor = Supervisor()
    for run in ("run", "a", "b", "c", "r0", "r1", "r2", "r3", "r4"):
        supervisor.on_run_started(run)
    for role, size in pools.items():
        for number in range(size):
            supervisor.on_registered(role, f"{role}/{number}")
    return supervisor


def test_a_run_stays_with_the_agent_that_got_its_first_message():
    supervisor = team(coder=3)
    first = supervisor.on_message(message("coder", "a", "0"))
    supervisor.on_message(message("coder", "b", "0"))
    assert supervisor.on_message(message("coder", "a", "1")) == first


def test_a_new_run_goes_to_the_least_loaded_agent_and_ties_to_the_first():
    supervisor = team(coder=2)
    assert supervisor.on_message(message("coder", "a")) == Route("coder/0")
    assert supervisor.on_message(message("coder", "b")) == Route("coder/1")
    supervisor.on_settled("a/0")
    assert supervisor.on_message(message("coder", "c")) == Route("coder/0")


def test_an_unknown_role_is_answered_with_those_there_are():
    decision = team(coder=1, reviewer=1).on_message(message("tester"))
    assert decision == NoRoute(ErrorKind.NO_SUCH_ROLE, "no agent plays the role 'tester'; there are: coder, reviewer")


def test_a_role_whose_last_agent_is_gone_is_answered_so():
    supervisor = team(coder=1)
    supervisor.on_gone("coder/0")
    decision = supervisor.on_message(message("coder"))
    assert isinstance(decision, NoRoute)
    assert decision.reason == "no agent is left that plays the role 'coder'; there are: none"


def test_a_conversation_moves_on_when_its_agent_is_gone():
    supervisor = team(coder=2)
    assert supervisor.on_message(message("coder", "a", "0")) == Route("coder/0")
    supervisor.on_gone("coder/0")
    assert supervisor.on_message(message("coder", "a", "1")) == Route("coder/1")


def test_an_address_is_a_recipient_too():
    assert team(coder=2).on_message(message("coder/1")) == Route("coder/1")


def test_without_a_recipient_the_role_is_chosen_by_what_is_asked():
    supervisor = team(orchestrator=1, coder=1, reviewer=1)
    assert supervisor.on_message(message(None, step="0", content="Review: this code")) == Route("reviewer/0")
    assert supervisor.on_message(message(None, step="1", content="What is 2 + 2?")) == Route("coder/0")
    big = "Build a web service with a database, a queue, tests and docs"
    assert supervisor.on_message(message(None, step="2", content=big)) == Route("orchestrator/0")


def test_without_a_recipient_and_without_agents_there_is_no_route():
    assert isinstance(Supervisor().on_message(message(None)), NoRoute)


def test_agents_that_ask_each_other_the_same_in_a_circle_are_stopped():
    supervisor = team(coder=1, reviewer=1)
    steps = ["0" + "/0" * depth for depth in range(6)]
    asked = [supervisor.on_message(message(("coder", "reviewer")[n % 2], step=step)) for n, step in enumerate(steps)]
    assert [isinstance(decision, Route) for decision in asked] == [True] * 4 + [False] * 2
    assert asked[4].kind is ErrorKind.CIRCLE
    supervisor.on_settled("run/0")
    assert isinstance(supervisor.on_message(message("coder", step=steps[4])), Route)


def test_the_same_may_be_asked_again_side_by_side():
    supervisor = team(coder=1)
    asked = [supervisor.on_message(message("coder", step=str(n))) for n in range(9)]
    assert all(isinstance(decision, Route) for decision in asked)


def test_what_an_agent_that_is_gone_was_asked_is_forgotten():
    supervisor = team(coder=2, reviewer=1)
    for step in ("0", "0/0"):
        supervisor.on_message(message("coder", step=step))
    supervisor.on_gone("coder/0")
    assert isinstance(supervisor.on_message(message("coder", step="0/0/0")), Route)


def test_the_holder_of_a_step_is_known_until_it_is_settled():
    supervisor = team(coder=1)
    supervisor.on_message(message("coder"))
    assert supervisor.holders_of("run/0") == ("coder/0",)
    supervisor.on_settled("run/0")
    assert supervisor.holders_of("run/0") == ()


def test_the_tasks_of_a_run_are_known_by_whoever_holds_them():
    supervisor = team(coder=2, reviewer=1)
    for asked in (message("coder", "a"), message("reviewer", "a", "1/0"), message("coder", "b")):
        supervisor.on_message(asked)
    supervisor.on_settled("a/0")
    assert supervisor.steps_of("a") == ("a/1/0",)


def test_what_is_asked_again_goes_to_its_holder_and_is_booked_once():
    supervisor = team(coder=2)
    assert supervisor.on_message(message("coder", "a")) == Route("coder/0")
    supervisor.on_run_ended("a")  # even where nothing else leads there
    assert supervisor.on_message(message("coder", "a")) == Route("coder/0")
    supervisor.on_settled("a/0")
    assert supervisor.on_message(message("coder", "b")) == Route("coder/0")


def test_what_is_told_without_an_id_is_not_booked_since_nobody_settles_it():
    supervisor = team(coder=2)
    for _ in range(3):
        assert supervisor.on_message(AgentMessage(sender="w", recipient="coder", content="x")) == Route("coder/0")
    assert supervisor.holders_of("") == ()


def test_the_end_of_a_run_forgets_where_its_conversations_were():
    supervisor = team(coder=2)
    supervisor.on_message(message("coder", "a", "0"))
    supervisor.on_run_ended("a")
    assert supervisor.on_message(message("coder", "a", "1")) == Route("coder/1")


def test_what_belongs_to_no_run_stays_with_nobody():
    supervisor = team(coder=2)
    assert supervisor.on_message(message("coder", "told", "0")) == Route("coder/0")
    assert supervisor.on_message(message("coder", "told", "1")) == Route("coder/1")
    supervisor.on_reaffirmed("coder/1", "coder", ("told/2",))
    assert supervisor.on_message(message("coder", "told", "3")) == Route("coder/0")


def test_a_restarted_supervisor_learns_from_its_agents():
    supervisor = team()
    supervisor.on_reaffirmed("coder/0", "coder", ("a/0",))
    supervisor.on_reaffirmed("coder/1", "coder", ())
    assert supervisor.holders_of("a/0") == ("coder/0",)
    assert supervisor.on_message(message("coder", "b")) == Route("coder/1")
    assert supervisor.on_message(message("coder", "a", "1")) == Route("coder/0")


def test_until_every_agent_has_named_what_it_holds_what_is_asked_again_waits_and_a_cancel_goes_to_all_of_them():
    supervisor = team()
    for number in range(3):
        supervisor.on_found("coder", f"coder/{number}")
    again = structs.replace(message("coder", "a"), attempt=1)
    assert supervisor.recovering
    assert supervisor.on_message(again) == Wait()
    assert supervisor.on_message(message("coder", "b")) == Route("coder/0")
    supervisor.on_gone("coder/0")
    supervisor.on_reaffirmed("coder/1", "coder", ())
    assert supervisor.holders_of("a/0") == ("coder/2",)
    supervisor.on_reaffirmed("coder/2", "coder", ("a/0",))
    assert not supervisor.recovering
    assert supervisor.on_message(again) == Route("coder/2")


def test_the_end_of_an_actor_that_plays_no_role_changes_nothing():
    supervisor = team(coder=1)
    supervisor.on_gone("workflow/run")
    assert supervisor.on_message(message("coder")) == Route("coder/0")


def test_each_child_is_judged_by_its_own_failures():
    supervisor, limit = Supervisor(), RestartLimit(times=2, within=10.0)
    verdicts = [supervisor.on_child_failed("a", limit, float(n)) for n in range(3)]
    assert [type(v) for v in verdicts] == [Restart, Restart, GiveUp]
    assert isinstance(supervisor.on_child_failed("b", limit, 3.0), Restart)


@given(
    st.lists(st.tuples(st.sampled_from(["route", "settle", "end"]), st.integers(0, 4), st.integers(0, 3)), max_size=60)
)
def test_routing_agrees_with_a_twin_that_scans_a_full_history(moves):
    supervisor, history = team(coder=3), []
    open_steps: dict[str, str] = {}
    for n, (what, run, which) in enumerate(moves):
        if what == "route":
            asked = message("coder", f"r{run}", str(n))
            loads = [sum(1 for a in open_steps.values() if a == f"coder/{k}") for k in range(3)]
            held = [agent for kind, r, agent in history if kind == "route" and r == run]
            expected = held[-1] if held else f"coder/{loads.index(min(loads))}"
            assert supervisor.on_message(asked) == Route(expected)
            history.append(("route", run, expected))
            open_steps[asked.message_id] = expected
        elif what == "settle" and open_steps:
            step = sorted(open_steps)[which % len(open_steps)]
            supervisor.on_settled(step)
            del open_steps[step]
        elif what == "end":
            supervisor.on_run_ended(f"r{run}")
            supervisor.on_run_started(f"r{run}")
            history = [entry for entry in history if entry[1] != run]


def test_registering_twice_changes_nothing():
    supervisor = team(coder=1)
    supervisor.on_registered("coder", "coder/0")
    assert supervisor.roles == {"coder": ["coder/0"]}


def test_an_agent_leaves_its_own_pool_alone_and_what_it_held_is_forgotten():
    supervisor = team(coder=1, reviewer=1)
    supervisor.on_message(message("coder"))
    supervisor.on_gone("coder/0")
    supervisor.on_settled("run/0")
    assert supervisor.roles == {"coder": [], "reviewer": ["reviewer/0"]}
    assert supervisor.holders_of("run/0") == ()


def test_a_task_that_is_booked_is_not_booked_again_when_its_agent_names_it():
    supervisor = team(coder=2)
    supervisor.on_message(message("coder", "a"))
    supervisor.on_reaffirmed("coder/0", "coder", ("a/0",))
    supervisor.on_settled("a/0")
    assert supervisor.on_message(message("coder", "b")) == Route("coder/0")
