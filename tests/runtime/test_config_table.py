"""The page of defaults is the code's own: every key stands in it, and the file is what the code says."""

from pathlib import Path

import pytest

from runtime.config import Config, Role
from runtime.config_table import GUIDE, TABLES, TABLES_INSIDE, configuration_table

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def cells(key):
    """Return the cells of the row of *key*."""
    (row,) = [line for line in configuration_table().splitlines() if line.startswith(f"| `{key}` |")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_page_is_what_the_code_says():
    assert PAGE.read_text("utf-8") == configuration_table()


def test_every_table_of_the_configuration_is_on_the_page():
    shown = {name.partition(".")[0] for name in TABLES}
    assert shown == set(Config.__struct_fields__)


def test_every_key_of_every_table_has_a_row():
    names = ("team", "routing", "retry", "budget", "executor", "system", "simulation")
    assert [type(getattr(Config(), name)) for name in names] == [TABLES[name] for name in names]
    for table, kind in TABLES.items():
        for name in kind.__struct_fields__:
            if f"{table}.{name}" not in TABLES_INSIDE:
                assert len(cells(f"{table}.{name}")) == 5


@pytest.mark.parametrize(
    ("key", "default", "guide"),
    [
        ("roles.<name>.max_retries", "3", "3"),
        ("roles.<name>.timeout", "30.0", "30.0"),
        ("roles.coder.timeout", "45.0", "45.0"),
        ("roles.<name>.temperature", "0.7", "0.7"),
        ("roles.reviewer.temperature", "0.0", "0.7"),
        ("roles.<name>.max_tokens", "4096", "4096"),
        ("team.max_parallel", "5", "5 (3 in its example)"),
        ("limits.<provider>.requests_per_minute", "none", "3600 (60 per second)"),
        ("limits.<provider>.burst", "10", "100"),
        ("system.dispatcher", '`"shared"`', "-"),
    ],
)
def test_a_default_stands_beside_the_guides_value(key, default, guide):
    assert cells(key)[2:4] == [default, guide]


@pytest.mark.parametrize("key", GUIDE)
def test_where_the_guides_value_is_another_the_page_says_why(key):
    _, _, default, guide, why = cells(key)
    assert why or guide.startswith(default)


def test_the_prompts_of_the_built_in_roles_stand_in_full():
    for role in Config().roles.values():
        assert role.system_prompt in configuration_table()
        assert role.prompt in configuration_table()
    assert Role().prompt in configuration_table()
