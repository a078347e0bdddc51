"""The init command: a first configuration with every common key explained, which works as it stands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from protocol.errors import ConfigError
from runtime.config import Config, Model, Provider
from runtime.defaults import template
from runtime.terminal import print_out, program, say

if TYPE_CHECKING:
    import argparse

FILE = "team.toml"
BASE_URL = "http://127.0.0.1:8080/v1"
MODEL = "large-model"
QUESTIONS = (
    ("base_url", "URL of an OpenAI-compatible API", BASE_URL),
    ("model", "Name of a model there", MODEL),
    ("api_key_env", "Variable that holds the key, if it wants one", ""),
)
KEYLESS = '#api_key_env = "EXAMPLE_API_KEY"     # the variable that holds the key; left out: no Authorization header'
FIRST = """\
[provider.main]
kind = "openai"                     # "openai": any compatible server; "anthropic"; "embedded": a small model of our own
{base_url}
{api_key_env}

[model.main]
provider = "main"
{name}
#tier = 3                            # routing ladder: 1 cheap .. 3 strong; default 2
#context = 200000                    # its window in tokens, where longer prompts must go elsewhere
#price = {{ input = 5.0, output = 25.0 }}      # USD per million tokens; cached = and written = for a prompt cache
"""
BEGIN, END = "#[provider.main]", "# --- what the provider allows"


def init(options: argparse.Namespace) -> int:
    """Write the file that *options* name, ``-`` for standard output; what is there already is never overwritten.

    What the options leave open is asked for at a terminal, and the default elsewhere. Raises ``ConfigError``.
    """
    path: str = options.file or FILE
    if path != "-" and Path(path).exists():
        raise ConfigError(f"{path} is there already and is not overwritten", page="output")
    given = {name: getattr(options, name) for name, _, _ in QUESTIONS}
    if path != "-" and sys.stdin.isatty() and sys.stderr.isatty():
        given = {name: given[name] or asked(question, default) for name, question, default in QUESTIONS}
    text = first_config(**{name: value for name, value in given.items() if value})
    if path == "-":
        print_out(text.rstrip("\n"))
        return 0
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is no file name"
        raise ConfigError(f"{path} cannot be written: {reason}", page="output") from None
    say(f"{path} is written. Next: {program()} check --config {path}")
    return 0


def asked(question: str, default: str) -> str:
    """Return what is answered at the terminal, *default* for an empty line or its end."""
    sys.stderr.write(f"{question} [{default or 'none'}]: ")
    sys.stderr.flush()
    return sys.stdin.readline().strip() or default


def first_config(base_url: str = BASE_URL, model: str = MODEL, api_key_env: str = "") -> str:
    """Return the text of a configuration with one provider and one model. Raises ``ConfigError`` for what cannot be."""
    if not f"{base_url}{model}{api_key_env}".isprintable():
        raise ConfigError("init: a value holds a control character, or bytes that are no text", page="usage")
    Config(
        provider={"main": Provider(base_url=base_url, api_key_env=api_key_env or None)},
        model={"main": Model(provider="main", name=model)},
    ).validated("init")
    whole = template()
    before, rest = whole[: whole.index(BEGIN)], whole[whole.index(END) :]
    try_it = "   # python -m runtime fake-server --port 8080 answers here" if base_url == BASE_URL else ""
    first = FIRST.format(
        base_url=f"base_url = {quoted(base_url)}{try_it}",
        name=f"name = {quoted(model)}".ljust(35) + " # as the provider calls it",
        api_key_env=f"api_key_env = {quoted(api_key_env)}" if api_key_env else KEYLESS,
    )
    return f"{before}{first}\n{rest}"


def quoted(text: str) -> str:
    """Return the printable *text* as a basic string of TOML."""
    body = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{body}"'
