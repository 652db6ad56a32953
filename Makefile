# `make` lists the targets. PYTHON=/path/to/python picks the Python that makes the environment.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; \
	done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
LAB := $(VENV)/share/jupyter/lab/settings
QUIET_LAB := {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false"}}
NB ?=
# Tests run in so many processes, with one thread each: on two cores that is faster than one process
# with two. More cores and 3 GB of memory a process allow more: make test JOBS=4.
JOBS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest
QUICK := -m "not slow and not browser" -n $(JOBS) --dist worksteal
SLOW := -m "slow or browser" -n $(JOBS) --dist load --maxschedchunk 1

export PYTHONUTF8 := 1
unexport TOKENIZERS_PARALLELISM
ifdef DOMAIN
export EMBKIT_DOMAIN := $(DOMAIN)
endif

.DEFAULT_GOAL := help
.PHONY: help setup assets run lab page test test-all lint style bench full sources approaches pictures \
	notebooks clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 19

setup: $(STAMP) ## create .venv and install the pinned packages, once

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "embkit needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@mkdir -p $(LAB) && echo '$(QUIET_LAB)' > $(LAB)/overrides.json
	@touch $@

assets: $(STAMP)
	@$(BIN)/python -m embkit assets

run: assets ## run the course, then the leaderboard (NB=04 runs one, DOMAIN= picks another)
	@$(BIN)/python -m embkit.course run $(if $(NB),--only $(NB))

lab: assets ## open JupyterLab on the first notebook
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

page: assets ## the front page with Voila: search before and after, maps, leaderboard
	$(BIN)/voila --Voila.ip=127.0.0.1 notebooks/front_page.ipynb

test: assets lint ## lint, then the quick tests (ARGS="tests/notebooks" or others: those alone)
	$(PYTEST) $(or $(ARGS),$(QUICK))
	@$(if $(ARGS),,echo 'The notebooks and the browser are not in this: make test-all runs all,' \
		'make test ARGS="tests/notebooks -k 04" some.')

test-all: assets lint ## lint, then every test: the quick ones, the notebooks, the browser
	$(PYTEST) $(QUICK)
	$(PYTEST) $(SLOW)

lint: $(STAMP) ## ruff and the type checker
	$(BIN)/ruff check
	$(BIN)/mypy

style: $(STAMP) ## notebooks in step with their sources, and in style
	@$(BIN)/python -m embkit.course check

bench: assets ## compare speed with the stock trainer
	@$(BIN)/python -m embkit.bench

full: assets ## the main job at full size
	@EMBKIT_PROFILE=full $(BIN)/python -m embkit.full

sources: assets ## training data of every kind, compared at equal cost
	@$(BIN)/python -m embkit sources

approaches: assets ## every approach with three seeds, compared (ARGS="--only corpus LoRA" some)
	@$(BIN)/python -m embkit approaches $(ARGS)

pictures: assets ## pictures and words: trained towers and baselines (ARGS="--all" more rows)
	@$(BIN)/python -m embkit.picture_table $(ARGS)

notebooks: assets ## rebuild the notebooks from their sources and run them, outputs kept
	@$(BIN)/python -m embkit.course build
	@EMBKIT_PROFILE=workshop $(BIN)/python -m embkit.course run --write-back $(if $(NB),--only $(NB))

clean: ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find embkit tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
