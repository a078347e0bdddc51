"""Exact token counts, where a model's tokeniser is public and the extra is installed."""

import sys

import pytest

from protocol.chat import ChatMessage
from protocol.policies.token_estimate import PER_MESSAGE, PER_REPLY
from runtime import tokenizers as module
from runtime.config import Config
from runtime.fake_server import FakeServer
from runtime.system import ActorSystem
from runtime.tokenizers import PIECE, tokenizers
from tests.runtime.command import config

FRAME = PER_REPLY + PER_MESSAGE


@pytest.fixture
def splintr():
    return pytest.importorskip("splintr", reason="the extra troupe[tokenizers] is not installed")


def count(name: str, text: str) -> int:
    return tokenizers({"m": name})["m"]([ChatMessage(role="user", content=text)]) - FRAME


@pytest.mark.parametrize(
    ("name", "text", "tokens"),
    [
        ("gpt-4o", "hello world", 2),
        ("openai/gpt-5.5", "hello world", 2),
        ("gpt-4-turbo", "tiktoken is great!", 6),  # as the vendor's cookbook counts it
        ("gpt-4o", "<|endoftext|>", 7),  # a special token that somebody wrote out is text
    ],
)
def test_a_text_has_the_tokens_that_the_vendor_counts(splintr, name, text, tokens):
    assert count(name, text) == tokens


def test_a_long_unbroken_text_is_counted_in_pieces_and_a_cut_adds_a_token_at_most(splintr):
    whole = len(splintr.Tokenizer.from_pretrained("o200k_base").encode_ordinary("word " * 2000))
    assert whole <= count("gpt-4o", "word " * 2000) <= whole + 10_000 // PIECE


def test_a_lone_surrogate_is_counted_too(splintr):
    assert count("gpt-4o", "a\ud800b") > 0


@pytest.mark.parametrize("name", ["claude-opus-4-5", "some-model", "olga"])
def test_a_model_whose_tokeniser_is_not_known_has_none(name):
    assert tokenizers({"m": name}) == {}


def test_without_the_package_there_is_none(monkeypatch):
    module._counter.cache_clear()
    monkeypatch.setitem(sys.modules, "splintr", None)
    assert tokenizers({"m": "gpt-4o"}) == {}
    module._counter.cache_clear()


def test_a_call_reserves_what_the_tokeniser_counts(splintr, monkeypatch):
    seen = []
    counter = tokenizers({"m": "gpt-4o"})["m"]

    def counted(messages):
        seen.append(counter(messages))
        return seen[-1]

    monkeypatch.setattr("runtime.assembly.tokenizers", lambda names: dict.fromkeys(names, counted))
    with FakeServer() as server:
        text = config(server.url, "[limits.main]\ntokens_per_minute = 1000000\n")
        with ActorSystem(Config.parse(text.encode(), "the test")) as system:
            assert system.submit("Say hello", to="coder").result(20).success
    assert seen
