"""Every actor of the package is a Pykka actor, on every dispatcher: told, asked and stopped through a Pykka ref."""

from __future__ import annotations

import gc
import importlib
import inspect
import pkgutil
from unittest.mock import Mock

import pykka
import pytest

import actors
from actors.base import Actor
from actors.directory import ActorSpec, Directory
from actors.simulation import SimulatedDispatcher
from protocol.signals import StartRun
from runtime.loop import PinnedDispatcher, SharedDispatcher

TIMEOUT = 10.0
START = StartRun(run="run", task="task", workflow="team", reply_to="desk")
ARGUMENTS = {
    "Caller": (Mock(),),
    "Desk": ({}, []),
    "DirectWorkflow": (START,),
    "Gateway": (Mock(),) * 4,
    "Limiter": ({},),
    "PatientCaller": (Mock(),),
    "Supervisor": ({},),
    "TeamWorkflow": (START,),
    "TestProbe": (None,),
    "Workflow": (START,),
}


def exported():
    """Return every public actor class of the package, whatever module it stands in."""
    found = set()
    for module in pkgutil.iter_modules(actors.__path__, "actors."):
        members = vars(importlib.import_module(module.name)).values()
        found |= {m for m in members if inspect.isclass(m) and issubclass(m, Actor) and m.__name__[0] != "_"}
    return sorted(found, key=lambda cls: cls.__name__)


def echo(cls):
    """Return *cls* with an ``on_receive`` whose answer shows that it ran; all the rest is its own."""
    count = len(inspect.signature(cls.__init__).parameters) - 1
    arguments = ARGUMENTS.get(cls.__name__, ())[:count]

    class Echo(cls):
        def on_receive(self, message):
            return (self.address, message)

        def setup(self):
            """Say nothing to a system that is not there."""

    return lambda: Echo(*arguments)


class Simulated:
    def __init__(self):
        self.dispatcher = SimulatedDispatcher()

    def get(self, future):
        self.dispatcher.settle()
        return future.get(timeout=0)

    def close(self):
        """Nothing runs."""


class Threaded:
    def __init__(self, dispatcher):
        self.dispatcher = dispatcher
        if isinstance(dispatcher, SharedDispatcher):
            dispatcher.start()

    def get(self, future):
        return future.get(timeout=TIMEOUT)

    def close(self):
        threads = self.dispatcher.threads()
        self.dispatcher.stop()
        for thread in threads:
            thread.join(timeout=TIMEOUT)


@pytest.fixture(params=["simulated", *(pytest.param(kind, marks=pytest.mark.waits) for kind in ("shared", "pinned"))])
def house(request):
    kinds = {"shared": SharedDispatcher, "pinned": PinnedDispatcher}
    house = Simulated() if request.param == "simulated" else Threaded(kinds[request.param]())
    yield house
    house.close()


@pytest.mark.parametrize("cls", exported(), ids=lambda cls: cls.__name__)
def test_an_actor_of_the_package_lives_and_ends_as_a_pykka_actor(house, cls):
    directory = Directory(house.dispatcher)
    factory = echo(cls)
    first, second = (directory.spawn(ActorSpec(address=address, factory=factory)) for address in ("one", "two"))
    assert issubclass(cls, pykka.Actor)
    assert isinstance(first, pykka.ActorRef)
    assert first.actor_inbox is not second.actor_inbox
    first.tell("told")
    assert house.get(first.ask("asked", block=False)) == ("one", "asked")
    assert house.get(second.ask("asked", block=False)) == ("two", "asked")
    assert (first.is_alive(), second.is_alive()) == (True, True)
    assert house.get(first.stop(block=False)) is True
    assert (first.is_alive(), second.is_alive()) == (False, True)
    assert pykka.ActorRegistry.get_all() == []
    assert house.get(second.stop(block=False)) is True


@pytest.mark.parametrize("cls", exported(), ids=lambda cls: cls.__name__)
def test_a_class_of_the_package_refuses_pykka_s_start(cls):
    with pytest.raises(TypeError, match=rf"^{cls.__name__}\.start\(\) is not used in Troupe: [^\n]+$"):
        cls.start()


def test_the_public_names_are_among_them():
    public = {getattr(actors, name) for name in actors.__all__}
    assert {cls for cls in public if issubclass(cls, pykka.Actor)} <= set(exported())


def test_an_actor_that_has_stopped_leaves_nothing_behind():
    house = Simulated()
    directory = Directory(house.dispatcher)
    ref = directory.spawn(ActorSpec(address="a", factory=echo(actors.Coder)))
    house.get(ref.stop(block=False))
    gc.collect()
    assert (directory.mailboxes, ref._actor_weakref()) == ({}, None)
