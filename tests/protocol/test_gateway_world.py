"""The gateway among limiters that grant and refuse, callers that reply, fail, hang and die, and askers that give up."""

from __future__ import annotations

from math import inf

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.calls import (
    AbortFlight,
    AnswerStep,
    AskLimiter,
    Dismiss,
    Dispatch,
    Hire,
    Later,
    Lost,
    TellLimiter,
    Unset,
)
from protocol.chat import CallFailure, ChatMessage, ChatReply, OutputSchema, Usage
from protocol.errors import ErrorKind
from protocol.gateway import Gateway
from protocol.models import ModelInfo, Price, ProviderInfo
from protocol.policies.backoff import Backoff
from protocol.signals import Cancel, CancelStep, ChatCall, Granted, Outcome, Performed, Refused, Settle

SCHEMA = OutputSchema(name="Plan", schema=msgspec.Raw(b'{"type":"object","properties":{"a":{"type":"string"}}}'))
CALLERS = 3
REPLY = ChatReply(text="done", usage=Usage(input_tokens=10, output_tokens=4))
INDEX = st.integers(0, 99)


def failed(kind, **fields):
    return CallFailure(kind=kind, message="", **fields)


OUTCOMES = [
    REPLY,
    ChatReply(text="no usage"),
    ChatReply(text="", finish_reason="length", usage=Usage(output_tokens=9)),
    failed(ErrorKind.RATE_LIMITED, status=429),
    failed(ErrorKind.RATE_LIMITED, status=429, retry_after=3.0),
    failed(ErrorKind.RATE_LIMITED, status=429, retry_after=500.0),
    failed(ErrorKind.PROVIDER_OVERLOADED, status=529, should_retry=False),
    failed(ErrorKind.TIMEOUT),
    failed(ErrorKind.CONNECTION, sent=False),
    failed(ErrorKind.BAD_RESPONSE, status=200),
    failed(ErrorKind.BAD_REQUEST, status=400),
    failed(ErrorKind.BAD_REQUEST, status=400, param="response_format"),
    failed(ErrorKind.BAD_REQUEST, status=400, param="temperature"),
]


class World(RuleBasedStateMachine):
    """A model of everyone around the gateway; it checks each effect against what may happen then."""

    def __init__(self):
        super().__init__()
        self.now = 50.0
        self.serial = 0
        self.roll = 0.0
        models = {"m": ModelInfo(key="m", provider="p", name="gpt", prices=(Price(input=1, output=2),))}
        providers = {"p": ProviderInfo(key="p", domain="p", callers=CALLERS)}
        self.gateway = Gateway(models=models, providers=providers, backoff=Backoff(), estimate=len)
        self.open = {}
        self.asked = {}  # leases the limiter has in line
        self.held = set()  # leases it has granted
        self.given_back = set()
        self.mail = []  # from the limiter to the gateway, in order
        self.idle, self.busy, self.lost, self.dead = set(), {}, {}, set()
        self.timers = {}
        self.sent = {}
        self.attempts = self.replies = self.own_replies = 0  # over all calls: what was handed over counts once

    # --- everyone around

    def perform(self, effects):
        for effect in effects:
            getattr(self, f"see_{type(effect).__name__.lower()}")(effect)

    def see_asklimiter(self, effect):
        assert isinstance(effect, AskLimiter)
        lease = effect.message.lease
        assert lease not in self.asked
        assert lease not in self.held
        assert lease not in self.given_back
        assert lease.rpartition("#")[0] in self.open
        self.asked[lease] = effect.message

    def see_telllimiter(self, effect):
        assert isinstance(effect, TellLimiter)
        lease = effect.message.lease
        if isinstance(effect.message, Settle):
            assert lease in self.held
            self.held.remove(lease)
            self.replies += effect.message.outcome is Outcome.SUCCESS
            self.given_back.add(lease)
            return
        assert isinstance(effect.message, Cancel)
        crossed = lease in self.given_back and lease not in self.asked
        assert crossed or lease in self.asked or lease in self.held
        self.asked.pop(lease, None)
        self.held.discard(lease)
        self.given_back.add(lease)

    def see_hire(self, effect):
        assert isinstance(effect, Hire)
        everyone = self.idle | set(self.busy) | set(self.lost) | self.dead
        assert effect.caller not in everyone
        assert not self.idle, "hired although one was free"
        self.idle.add(effect.caller)
        assert len(self.idle) + len(self.busy) <= CALLERS

    def see_dispatch(self, effect):
        assert isinstance(effect, Dispatch)
        perform, step = effect.perform, effect.perform.call.rpartition("#")[0]
        self.idle.remove(effect.caller)
        assert perform.call in self.held
        assert perform.call not in self.busy.values()
        assert 0.0 < perform.timeout <= self.open[step].timeout
        deadline = self.open[step].deadline
        assert deadline is None or self.now + perform.timeout <= deadline + 1e-9
        self.busy[effect.caller] = perform.call
        self.sent[step] = self.sent.get(step, 0) + 1

    def see_abortflight(self, effect):
        assert isinstance(effect, AbortFlight)
        assert self.busy[effect.caller] == effect.call

    def see_lost(self, effect):
        assert isinstance(effect, Lost)
        self.lost[effect.caller] = self.busy.pop(effect.caller)

    def see_dismiss(self, effect):
        assert isinstance(effect, Dismiss)
        self.idle.remove(effect.caller)
        self.dead.add(effect.caller)
        assert len(self.idle) + len(self.busy) >= CALLERS

    def see_later(self, effect):
        assert isinstance(effect, Later)
        assert effect.seconds >= 0.0
        self.timers[effect.key] = self.now + effect.seconds

    def see_unset(self, effect):
        assert isinstance(effect, Unset)
        self.timers.pop(effect.key, None)

    def see_answerstep(self, effect):
        assert isinstance(effect, AnswerStep)
        answer = effect.answer
        call = self.open.pop(answer.step)  # KeyError: answered twice, or although it was cancelled
        result = answer.payload
        assert (result.reply is None) != (result.failure is None)
        assert result.attempts <= 1 + call.max_retries
        assert call.coalesce or result.attempts <= self.sent.get(answer.step, 0) <= result.attempts + 4
        self.attempts += result.attempts
        self.own_replies += result.reply is not None and not result.served
        assert self.attempts <= sum(self.sent.values())
        assert self.own_replies <= self.replies
        assert not result.served or (result.attempts, result.cost) == (0, 0)
        assert result.served in {"", "cache" if call.cache_seconds else "", "shared" if call.coalesce else ""}
        assert result.queue_time_ms >= 0.0 <= result.execution_time_ms
        assert answer.to == call.reply_to

    # --- what may happen

    @rule(
        structured=st.booleans(),
        most=st.integers(0, 2),
        patience=st.none() | st.sampled_from([0.0, 1.0, 4.0, 40.0]),
        temperature=st.none() | st.just(0.5),
        coalesce=st.booleans(),
        cache_seconds=st.sampled_from([0.0, 0.0, 3.0]),
        priority=st.integers(0, 2),
    )
    def a_call_comes(self, structured, most, patience, temperature, coalesce, cache_seconds, priority):
        self.serial += 1
        call = ChatCall(
            step=f"run/{self.serial}",
            fingerprint="f",
            reply_to="agent/0",
            role="coder",
            messages=(ChatMessage(role="user", content="hello"),),
            schema=SCHEMA if structured else None,
            temperature=temperature,
            max_retries=most,
            timeout=2.0,
            coalesce=coalesce,
            cache_seconds=cache_seconds,
            priority=priority,
            deadline=None if patience is None else self.now + patience,
        )
        self.open[call.step] = call
        self.perform(self.gateway.on_call(call, self.now))

    @rule(index=INDEX)
    def a_call_comes_again(self, index):
        if self.open:
            call = list(self.open.values())[index % len(self.open)]
            self.open[call.step] = again = msgspec.structs.replace(call, reply_to=f"agent/{index}")
            self.perform(self.gateway.on_call(again, self.now))

    @rule(index=INDEX, granted=st.sampled_from([True, True, True, False]))
    def the_limiter_decides(self, index, granted):
        if self.asked:
            lease = list(self.asked)[index % len(self.asked)]
            del self.asked[lease]
            if granted:
                self.held.add(lease)
                self.mail.append(Granted(lease=lease))
            else:
                self.given_back.add(lease)
                self.mail.append(Refused(lease=lease, kind=ErrorKind.DEADLINE, reason="no"))

    @rule()
    def the_limiter_is_heard(self):
        if self.mail:
            message = self.mail.pop(0)
            hear = self.gateway.on_granted if isinstance(message, Granted) else self.gateway.on_refused
            self.perform(hear(message, self.now))

    @rule(index=INDEX, outcome=st.sampled_from(OUTCOMES), roll=st.sampled_from([0.0, 0.5, 0.999]))
    def a_caller_reports(self, index, outcome, roll):
        away = {**self.busy, **self.lost}
        if away:
            caller = sorted(away)[index % len(away)]
            self.busy.pop(caller, None)
            self.lost.pop(caller, None)
            self.idle.add(caller)
            performed = Performed(call=away[caller], caller=caller, outcome=outcome, elapsed_ms=5.0)
            self.perform(self.gateway.on_performed(performed, self.now, roll))

    @rule(index=INDEX, comes_back=st.booleans())
    def a_caller_dies(self, index, comes_back):
        alive = sorted(self.idle | set(self.busy))
        if alive:
            caller = alive[index % len(alive)]
            self.idle.discard(caller)
            self.busy.pop(caller, None)
            self.dead.add(caller)
            self.perform(self.gateway.on_caller_gone(caller, self.now, 0.5))
            if comes_back:
                self.dead.remove(caller)
                self.idle.add(caller)
                self.perform(self.gateway.on_caller_back(caller, self.now))

    @rule()
    def the_limiter_is_restarted(self):
        """It has forgotten all; what it said before is still on its way."""
        before, self.held = self.held, set()
        (tell, *effects) = self.gateway.on_limiter_restarted()
        self.held = {request.lease for request in tell.message.leases}
        assert set(self.busy.values()) <= self.held <= before
        self.given_back |= before - self.held
        self.perform(effects)

    @rule(index=INDEX)
    def nobody_waits_any_more(self, index):
        if self.open:
            step = list(self.open)[index % len(self.open)]
            del self.open[step]
            self.perform(self.gateway.on_cancel(CancelStep(step=step), self.now))

    @rule(seconds=st.sampled_from([0.1, 0.6, 2.4, 5.0]))
    def time_passes(self, seconds):
        end = self.now + seconds
        for _ in range(1000):
            key, due = min(self.timers.items(), key=lambda item: item[1], default=("", inf))
            if due > end:
                break
            self.now = max(self.now, due)
            del self.timers[key]
            self.perform(self.gateway.on_timer(key, self.now, 0.5))
        else:
            raise AssertionError("timers fire for ever")
        self.now = end

    # --- what holds always, and at the end

    @invariant()
    def nobody_is_kept_past_the_deadline(self):
        assert all(call.deadline is None or call.deadline > self.now - 1e-6 for call in self.open.values())

    @invariant()
    def no_caller_is_free_while_a_granted_call_waits(self):
        told = {message.lease for message in self.mail}
        ready = self.held - told - set(self.busy.values())
        assert not ready or not self.idle or len(self.busy) == CALLERS

    def teardown(self):
        for _ in range(100):
            for _ in range(len(self.asked)):
                self.the_limiter_decides(index=0, granted=True)
            while self.mail:
                self.the_limiter_is_heard()
            for _ in range(len(self.busy) + len(self.lost)):
                self.a_caller_reports(index=0, outcome=REPLY, roll=0.0)
            self.time_passes(seconds=1.0)
            if not (self.open or self.asked or self.mail or self.busy or self.lost):
                break
        assert (self.open, self.asked, self.held, self.busy, self.lost) == ({}, {}, set(), {}, {})
        assert (self.timers, self.gateway._calls, self.gateway._flights) == ({}, {}, {})
        sharing = self.gateway._sharing
        assert (sharing._groups, sharing._led, sharing._joined) == ({}, {}, {})
        assert len(self.gateway._head_room) == 0
        assert self.gateway._pools["p"].idle == self.gateway._pools["p"].size == len(self.idle)


World.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestWorld = World.TestCase
