"""The wheel holds the three packages, whole and typed, and nothing else at its top level."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"actors", "protocol", "runtime"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("hatchling") is None, reason="hatchling is not installed: nothing builds the wheel"),
]


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=60)
    (wheel,) = folder.glob("troupe-*.whl")
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if not name.endswith("/")}


def test_the_top_level_is_the_three_packages(names: set[str]):
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == PACKAGES


def test_each_package_is_typed(names: set[str]):
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_every_file_of_the_packages_is_in_it(names: set[str]):
    files = (file for package in PACKAGES for file in (ROOT / package).rglob("*"))
    there = {file.relative_to(ROOT).as_posix() for file in files if file.is_file() and file.suffix != ".pyc"}
    assert {name for name in names if ".dist-info/" not in name} == there


def test_the_licence_travels_with_it(names: set[str]):
    assert [name for name in names if name.endswith("dist-info/licenses/LICENSE")]
