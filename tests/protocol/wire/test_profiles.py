"""Which endpoint is spoken to how."""

from __future__ import annotations

import pytest

from protocol.wire.hints import DAY
from protocol.wire.profiles import DEFAULT, PROFILES, profile_for


@pytest.mark.parametrize(
    ("base_url", "name"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://API.OpenAI.com:443/v1/", "openai"),
        ("https://my-team.openai.azure.com/openai/v1", "azure"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.holysheep.ai/v1", "holysheep"),
        ("https://dashscope-intl.aliyuncs.com/compatible-mode/v1", "qwen"),
        ("http://127.0.0.1:8080/v1", "openai-compatible"),
        ("http://[::1]:8080/v1", "openai-compatible"),
        ("http://localhost:11434/v1", "openai-compatible"),
        ("https://api.openai.com.example.org/v1", "openai-compatible"),
        ("https://notopenrouter.ai/v1", "openai-compatible"),
        ("https://user@example.org/api.openai.com", "openai-compatible"),
        ("http://[broken", "openai-compatible"),
        ("", "openai-compatible"),
    ],
)
def test_the_host_decides(base_url, name):
    assert profile_for(base_url).name == name


def test_an_unknown_server_is_spoken_to_as_most_are():
    assert (DEFAULT.max_tokens_field, DEFAULT.output, DEFAULT.keep_constraints) == ("max_tokens", "json_schema", True)


def test_what_is_special_is_data():
    assert PROFILES["api.openai.com"].max_tokens_field == "max_completion_tokens"
    assert PROFILES["api.deepseek.com"].output == "json_object"
    assert PROFILES["api.groq.com"].requests_period == DAY


def test_the_path_is_joined_without_losing_any():
    assert DEFAULT.url("http://h/v1/") == DEFAULT.url("http://h/v1") == "http://h/v1/chat/completions"


def test_the_key_stands_where_the_endpoint_looks_for_it():
    assert DEFAULT.auth_headers("k") == {"Authorization": "Bearer k"}
    assert PROFILES["openai.azure.com"].auth_headers("k") == {"api-key": "k"}
    assert DEFAULT.auth_headers(None) == DEFAULT.auth_headers("") == {}
