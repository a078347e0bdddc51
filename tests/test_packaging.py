"""The wheel holds the three packages, whole and typed, and nothing else; with pytest beside it agents are tested.

So they are with the lowest and the newest versions of what it requires, where a package index can be reached.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tomllib
from importlib.metadata import Distribution, PathDistribution, distribution
from importlib.util import find_spec
from pathlib import Path
from shutil import copy2
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGES = {"actors", "protocol", "runtime"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("hatchling") is None, reason="hatchling is not installed: nothing builds the wheel"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check")
    command = [sys.executable, "-m", "pip", "wheel", *options, "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, timeout=60)
    (built,) = folder.glob("troupe-*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
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


def test_it_brings_the_command(wheel: Path, names: set[str]):
    (entry_points,) = (name for name in names if name.endswith("dist-info/entry_points.txt"))
    with ZipFile(wheel) as archive:
        assert "troupe = runtime.__main__:script" in archive.read(entry_points).decode().splitlines()


def test_the_licence_travels_with_it(names: set[str]):
    assert [name for name in names if name.endswith("dist-info/licenses/LICENSE")]


def needed(*names: str) -> dict[str, Distribution]:
    """Return the distributions that *names* and what they require consist of, as they are installed here."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found[name] = distribution(name)
            wanted = map(Requirement, found[name].requires or ())
            waiting += [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


def copied(installed: Distribution, site: Path) -> None:
    """Copy a distribution as it is installed here, save its scripts."""
    for file in installed.files or ():
        if ".." not in file.parts and file.suffix != ".pyc":
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            copy2(file.locate(), site / file)


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an environment with nothing but the wheel, pytest and what these two require."""
    home = tmp_path_factory.mktemp("empty")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=60)
    (site,) = home.glob("lib/python*/site-packages")
    options = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check", "--target", str(site))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(wheel)], check=True, timeout=60)
    (metadata,) = site.glob("troupe-*.dist-info")
    requires = [
        requirement
        for requirement in map(Requirement, PathDistribution(metadata).requires or ())
        if requirement.marker is None
    ]
    for each in needed("pytest", *(requirement.name for requirement in requires)).values():
        copied(each, site)
    return home / "bin" / "python"


def test_the_examples_of_tests_pass_where_only_the_wheel_and_pytest_are_installed(empty: Path, tmp_path: Path):
    copy2(ROOT / "examples" / "test_my_agent.py", tmp_path)
    command = [str(empty), "-I", "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_my_agent.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "5 passed" in done.stdout, done.stdout + done.stderr


def test_the_agent_of_the_page_passes_its_test_and_runs_there_too(empty: Path, tmp_path: Path):
    for name in ("translator.py", "test_translator.py"):
        copy2(ROOT / "examples" / name, tmp_path)
    for command, said in (
        (("-m", "pytest", "-p", "no:cacheprovider"), "1 passed"),
        (("translator.py",), "Good morning"),
    ):
        run = [str(empty), "-W", "error", *command]
        done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert said in done.stdout, done.stdout + done.stderr


def test_in_that_environment_is_nothing_else(empty: Path):
    code = "from importlib.metadata import distributions; print(*sorted(d.name.lower() for d in distributions()))"
    done = subprocess.run([str(empty), "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    ours = {"certifi", "charset-normalizer", "idna", "msgspec", "pykka", "requests", "structlog", "troupe", "urllib3"}
    theirs = {"iniconfig", "packaging", "pluggy", "pygments", "pytest"}
    assert set(done.stdout.split()) - {"typing_extensions", "typing-extensions"} == ours | theirs


# --- the sdist


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Return the names of the files in the sdist, without the folder that all of them lie in."""
    folder = tmp_path_factory.mktemp("sdist")
    code = f"from hatchling.build import build_sdist; print(build_sdist({str(folder)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL, timeout=60)
    (built,) = folder.glob("troupe-*.tar.gz")
    with tarfile.open(built) as archive:
        return {member.name.partition("/")[2] for member in archive if member.isfile()}


def test_the_sdist_holds_what_is_needed_to_test_and_to_build_the_site(sources: set[str]):
    folders = (*PACKAGES, "tests", "docs", "examples", "benchmarks")
    kept = {path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()}
    wanted = {path.relative_to(ROOT).as_posix() for path in kept if path.suffix != ".pyc"}
    top = {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "SECURITY.md", "mkdocs.yml"}
    assert (wanted | top | {"pyproject.toml"}) - sources == set()


def test_the_sdist_holds_no_cache_and_nothing_that_was_built(sources: set[str]):
    parts = {part for name in sources for part in name.split("/")}
    assert {part for part in parts if part.startswith(".") and part != ".gitignore"} == set()
    assert parts & {"__pycache__", "build", "dist", "node_modules", "venv"} == set()
    assert [name for name in sources if name.endswith((".pyc", ".log", ".db", ".swp"))] == []


def test_the_metadata_says_all_that_an_index_shows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"authors", "classifiers", "description", "keywords", "license", "license-files", "readme"} <= project.keys()
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{project['version']}]" in changes or "## [Unreleased]" in changes


# --- other versions


def bounds(which: str) -> list[str]:
    """Return what pip is told to install beside the wheel: each lower bound as it stands in the metadata, or none."""
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    tests = [each for each in tables["dependency-groups"]["test"] if each.startswith("pytest>")]
    wanted = [Requirement(each) for each in (*tables["project"]["dependencies"], *tests)]
    if which == "newest":
        return [str(each) for each in wanted]
    floors = [(each.name, [part.version for part in each.specifier if part.operator == ">="]) for each in wanted]
    return [f"{name}=={floor}" for name, (floor,) in floors]


def test_every_dependency_has_one_lower_bound():
    assert all("==" in each for each in bounds("lowest"))


@pytest.fixture(scope="module", params=["lowest", "newest"])
def fresh(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of an empty environment with the wheel and one end of the versions that it allows."""
    home = tmp_path_factory.mktemp(request.param)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=60)
    python = home / "bin" / "python"
    options = ("--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1", "--only-binary", ":all:")
    command = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        *options,
        *bounds(request.param),
        str(wheel),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    if "(from versions: none)" in done.stderr or "Failed to establish a new connection" in done.stderr:
        pytest.skip("no package index can be reached")
    assert done.returncode == 0, done.stderr
    return python


def alone(python: Path, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module where nothing but that environment is seen, with an empty home."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    command = [str(python), "-I", "-W", "error", *arguments]
    return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=120, check=False)


def test_with_any_version_that_is_allowed_agents_are_tested_and_the_demo_runs(fresh: Path, tmp_path: Path):
    copy2(ROOT / "examples" / "test_my_agent.py", tmp_path)
    tested = alone(fresh, tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_agent.py")
    assert "5 passed" in tested.stdout, tested.stdout + tested.stderr
    helped = alone(fresh, tmp_path, "-m", "runtime", "--help")
    assert (helped.returncode, helped.stderr) == (0, "")
    shown = alone(fresh, tmp_path, "-m", "runtime")
    assert shown.returncode == 0, shown.stderr
    assert "pip install" in shown.stderr.splitlines()[0] + shown.stderr.splitlines()[1]
    assert "Failed: 0" in shown.stderr
