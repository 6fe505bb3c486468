# Everything a developer runs. `make` alone lists the targets. Written for GNU make 3.81 and later.

PYTHON  ?= python3
VENV    ?= .venv
JOBS    ?= 2
SEEDS   ?= 2000
BIN     := $(VENV)/bin
INSTALL := PYTHON="$(PYTHON)" VENV="$(VENV)" sh scripts/install.sh

.DEFAULT_GOAL := help
.PHONY: help install demo check servers test pythons simulate prove bench docs map baseline release-check clean

help: ## list the targets
	@echo "make demo       an agent with tools on a SQLite file; without a key it runs offline"
	@echo "make test       the checks, then all tests"
	@echo "make check      ruff, pyright (strict, every public symbol typed), the floors and the house rules"
	@echo "make servers    install PostgreSQL and MariaDB for the tests (Debian, root); make test does it where CI is set"
	@echo "make simulate   seeded simulation of crashes and races (SEEDS=$(SEEDS))"
	@echo "make prove      every suite of faults, whole: kills, disks, power, networks, servers, races"
	@echo "make bench      the costs, as ratios measured in one run"
	@echo "make docs       build the documentation into site/"
	@echo "make pythons    all tests on every Python >= 3.11 of this machine"
	@echo "make map        bring the generated pages up to date: map, acceptance, reference, errors, diagrams, examples"
	@echo "make baseline   extend the frozen list of public names"
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

install: $(VENV)/.installed-dev

demo: $(VENV)/.installed-demo
	@$(BIN)/python examples/demo.py

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python scripts/verify_types.py
	$(BIN)/python -m pytest tests/house/test_floors.py tests/house/test_rules.py

servers: ## nothing is started: the tests start servers of their own
	@sh scripts/servers.sh
	-@sh scripts/real_mysql.sh
	-@sh scripts/mcp_servers.sh

test: check $(if $(CI),servers)
	$(BIN)/python -m pytest -n $(JOBS) --durations=10

pythons: $(VENV)/.installed-dev
	$(BIN)/python scripts/pythons.py -n $(JOBS)

simulate: $(VENV)/.installed-dev
	$(BIN)/python scripts/simulate.py --seeds $(SEEDS)

prove: $(VENV)/.installed-dev
	$(BIN)/python scripts/prove.py

bench: $(VENV)/.installed-dev
	$(BIN)/python bench/run.py

docs: $(VENV)/.installed-docs
	$(BIN)/zensical build --clean --strict

map: $(VENV)/.installed-dev
	$(BIN)/python scripts/generated.py --write

baseline: $(VENV)/.installed-dev
	$(BIN)/python scripts/baseline.py --write

release-check: $(VENV)/.installed-dev
	$(BIN)/python scripts/release.py

clean:
	rm -rf $(VENV) site .cache build dist .pytest_cache .ruff_cache .hypothesis
