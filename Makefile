# Everything a developer runs. `make` alone lists the targets. Written for GNU make 3.81 and later.

PYTHON  ?= python3
VENV    ?= .venv
JOBS    ?= 2
SEEDS   ?= 2000
SOAK    ?= --seconds 120
BIN     := $(VENV)/bin
INSTALL := PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/install.sh

# Many tests start processes: without compiled files each of them compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo check servers otlp test pythons simulate prove soak bench peers docs map baseline coverage mutants release-check lowest clean

help: ## list the targets
	@echo "make demo       an agent with tools on a SQLite file; offline, or MODEL=openai:gpt-4o-mini (PROVIDER:MODEL)"
	@echo "make test       the checks, then all tests"
	@echo "make check      ruff, pyright (strict, every public symbol typed), the floors and the house rules"
	@echo "make servers    install PostgreSQL and MariaDB for the tests (Debian, root); make test does it where CI is set"
	@echo "make otlp       send a trace to a real OTLP backend (Arize Phoenix, 600 MB) and read it back"
	@echo "make simulate   seeded simulation of crashes and races (SEEDS=$(SEEDS))"
	@echo "make prove      every suite of faults, whole: kills, disks, power, networks, servers, races"
	@echo "make soak       a long mixed day on one store (SOAK=\"$(SOAK)\"; --engine mariadb for another)"
	@echo "make bench      the costs, as ratios measured in one run"
	@echo "make peers      the same scripted work on other agent libraries, written into docs/comparison.md (installs them; takes long)"
	@echo "make docs       build the documentation into site/"
	@echo "make pythons    all tests on every Python >= 3.11 of this machine"
	@echo "make map        bring the generated pages up to date: map, acceptance, reference, errors, diagrams, examples"
	@echo "make baseline   extend the frozen list of public names"
	@echo "make coverage   which branches the tests enter; kernel, store and runtime have to reach 95 %"
	@echo "make mutants    change the kernel, one thing at a time, and see whether its tests notice"
	@echo "make lowest     the tests with the lowest versions that the extras allow"
	@echo "make release-check   build wheel and sdist, look into them, install and run the wheel where nothing else is"
	@echo "make install    a virtual environment for development in $(VENV)"
	@echo "make clean      remove what these targets made"

# A stamp says what is installed, so nothing is installed twice until pyproject.toml changes.
$(VENV)/.installed-demo: pyproject.toml scripts/install.sh
	@$(INSTALL) openai,anthropic demo

$(VENV)/.installed-dev: pyproject.toml scripts/install.sh
	@$(INSTALL) dev dev

$(VENV)/.installed-docs: pyproject.toml scripts/install.sh
	@$(INSTALL) docs docs

$(VENV)/.installed-quality: $(VENV)/.installed-dev
	@$(INSTALL) quality quality

install: $(VENV)/.installed-dev

demo: $(VENV)/.installed-demo
	@$(BIN)/python examples/demo.py $(if $(filter command%,$(origin MODEL)),$(MODEL))

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python scripts/verify_types.py
	$(BIN)/python -m pytest tests/house/test_floors.py tests/house/test_rules.py

servers: ## nothing is started: the tests start servers of their own
	@sh scripts/servers.sh
	-@sh scripts/real_mysql.sh
	-@sh scripts/node_servers.sh

OTLP ?= /var/tmp/power-loop-phoenix

otlp: $(VENV)/.installed-dev ## no part of make test: the backend is large and slow to start
	@PYTHON="$(PYTHON)" sh scripts/otlp_backend.sh $(OTLP)
	POWER_LOOP_TEST_PHOENIX=$(OTLP)/bin/phoenix $(BIN)/python -m pytest -n 0 tests/sinks/test_otlp_backend.py

test: check $(if $(CI),servers)
	$(BIN)/python -m pytest -n $(JOBS) --durations=10

pythons: $(VENV)/.installed-dev
	$(BIN)/python scripts/pythons.py -n $(JOBS)

simulate: $(VENV)/.installed-dev
	$(BIN)/python scripts/simulate.py --seeds $(SEEDS)

prove: $(VENV)/.installed-dev
	$(BIN)/python scripts/prove.py

soak: $(VENV)/.installed-dev
	$(BIN)/python scripts/soak.py $(SOAK)

bench: $(VENV)/.installed-dev
	$(BIN)/python bench/run.py

peers: $(VENV)/.installed-dev
	$(BIN)/python bench/peers/run.py --write

docs: $(VENV)/.installed-docs
	$(BIN)/zensical build --clean --strict

map: $(VENV)/.installed-dev
	$(BIN)/python scripts/generated.py --write

baseline: $(VENV)/.installed-dev
	$(BIN)/python scripts/baseline.py --write

coverage: $(VENV)/.installed-quality
	$(BIN)/python scripts/covered.py --jobs $(JOBS)

mutants: $(VENV)/.installed-quality
	$(BIN)/python scripts/mutants.py --jobs $(JOBS)

release-check: $(VENV)/.installed-quality
	$(BIN)/python scripts/release.py

lowest: $(VENV)/.installed-dev
	$(BIN)/python scripts/release.py --lowest -n $(JOBS)

clean:
	rm -rf $(VENV) site .cache build dist .pytest_cache .ruff_cache .hypothesis
