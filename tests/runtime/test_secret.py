"""A secret is shown as stars and stored nowhere."""

import copy
import pickle

import msgspec
import pytest

from runtime.secret import Secret

CANARY = "sk-canary-0123456789abcdef"


@pytest.mark.parametrize("show", [repr, str, format, "{}".format, "{0!r}".format, ascii])
def test_a_secret_is_shown_as_stars(show):
    assert "****" in show(Secret(CANARY))
    assert "canary" not in show(Secret(CANARY))


@pytest.mark.parametrize("store", [pickle.dumps, copy.copy, copy.deepcopy, msgspec.json.encode, msgspec.to_builtins])
def test_a_secret_is_not_stored(store):
    with pytest.raises(TypeError) as caught:
        store(Secret(CANARY))
    assert "canary" not in str(caught.value)


def test_a_secret_is_given_out_on_demand_and_knows_whether_it_is_empty():
    assert Secret(CANARY).reveal() == CANARY
    assert (bool(Secret(CANARY)), bool(Secret(""))) == (True, False)


def test_a_secret_has_no_dict_to_look_into():
    assert not hasattr(Secret(CANARY), "__dict__")
