# `make` lists the targets. PYTHON=/path/to/python picks the Python that makes the environment;
# TORCH=cpu takes PyTorch's build without a GPU's libraries (as do cu130 and its other builds by
# name) in place of the one that pip gives; UV= installs with pip where uv is there too.
PYTHONS := python3 python3.13 python3.12 python3.11 python3.14
FITS := import sys; sys.exit(not (3, 11, 5) <= sys.version_info < (3, 15))
ifndef PYTHON # looked for once, and only where it is needed
PYTHON = $(eval PYTHON := $(shell \
	for p in $(PYTHONS); do $$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done))$(PYTHON)
endif
UV ?= $(shell command -v uv 2>/dev/null)
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

# Which build of torch is there; another one begins the environment anew.
HAS := $(shell cat $(STAMP) 2>/dev/null)
TORCH ?= $(HAS)
ifneq ($(TORCH),$(HAS))
.PHONY: $(STAMP)
ANEW := --clear
endif

LOG := build/setup.log
PIP = $(if $(UV),$(UV) pip install --compile-bytecode --python $(BIN)/python,\
	$(BIN)/python -m pip install)
MAKE_VENV = $(if $(UV),$(UV) venv $(or $(ANEW),--allow-existing) --python $(PYTHON) $(VENV) && \
	$(PIP) pip,$(PYTHON) -m venv $(ANEW) $(VENV))
GET_TORCH = $(PIP) -c constraints.txt torch$(if $(TORCH), \
	--no-deps --index-url https://download.pytorch.org/whl/$(TORCH))
step = @printf '  %-64s' '$(1)'; begun=$$(date +%s); \
	if { $(2); } >> $(LOG) 2>&1; then echo "$$(($$(date +%s) - begun)) s"; \
	else printf 'failed. The last lines:\n\n'; tail -n 15 $(LOG); \
	printf '\nThe whole log: $(LOG)$(if $(UV),. With pip in place of uv: make setup UV=)\n'; \
	exit 1; fi

export PYTHONUTF8 := 1
unexport TOKENIZERS_PARALLELISM
ifdef DOMAIN
export EMBKIT_DOMAIN := $(DOMAIN)
endif

.DEFAULT_GOAL := help
.PHONY: help setup assets run lab page test test-all lint style bench bench-gpu full approaches \
	pictures notebooks site handout slides bundle clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 19

setup: $(STAMP) ## create .venv and install the pinned packages, once

$(STAMP): pyproject.toml constraints.txt
	@$(if $(PYTHON),$(PYTHON) -c '$(FITS)',false) 2>/dev/null || { \
	echo 'embkit needs Python 3.11 to 3.14 (of 3.11, 3.11.5 or newer), and'; \
	echo '$(if $(PYTHON),$(PYTHON) is another,none of these is one: $(PYTHONS)).'; \
	echo 'Name one that is: make setup PYTHON=/path/to/python3.13'; exit 1; }
	@mkdir -p build && : > $(LOG)
	@echo "$(VENV): $$($(PYTHON) --version), with $(if $(UV),uv,pip); all that they say: $(LOG)"
	$(call step,the environment,$(MAKE_VENV))
	$(call step,torch ($(or $(TORCH),the build that pip gives; TORCH=cpu is smaller)),$(GET_TORCH))
	$(call step,embkit and the rest; about 180 packages,$(PIP) -c constraints.txt -e '.[dev]')
	@mkdir -p $(LAB) && echo '$(QUIET_LAB)' > $(LAB)/overrides.json
	@echo "$(TORCH)" > $@
	@echo "ready: $$(du -sh $(VENV) | cut -f1) in $(VENV). Next: make run, make lab or make test"

assets: $(STAMP)
	@$(BIN)/python -m embkit assets

run: assets ## run the course, then the leaderboard (NB=04 one, JOBS=1 one at a time, DOMAIN= on it)
	@$(BIN)/python -m notebooks.tools.course run $(if $(NB),--only $(NB)) \
		$(if $(filter command%,$(origin JOBS)),--jobs $(JOBS))

lab: assets ## open JupyterLab on the first notebook
	$(BIN)/jupyter lab notebooks/00_start_here.ipynb

page: assets ## the front page with Voila: search before and after, maps, leaderboard
	JUPYTER_PATH=notebooks/tools/pages $(BIN)/voila --template=embkit --Voila.ip=127.0.0.1 \
		notebooks/front_page.ipynb

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
	@$(BIN)/python -m notebooks.tools.course check

bench: assets ## compare speed with the stock trainer
	@$(BIN)/python -m tests.benchmarks.bench

bench-gpu: assets ## a GPU in ten minutes, one JSON (ARGS=--small: anything, in seconds)
	@$(BIN)/python -m tests.benchmarks.bench_gpu $(ARGS)

full: assets ## the main job at full size
	@EMBKIT_PROFILE=full $(BIN)/python -m notebooks.tools.full

approaches: assets ## every approach with three seeds, compared (ARGS="--only corpus LoRA" some)
	@$(BIN)/python -m embkit approaches --keep $(ARGS)

pictures: assets ## pictures and words: trained towers and baselines
	@$(BIN)/python -m tests.benchmarks.picture_table

notebooks: assets ## rebuild the notebooks from their sources and run them, outputs kept
	@$(BIN)/python -m notebooks.tools.course build
	@$(BIN)/python -m tests.notebooks.library > /dev/null  # which cell calls what, in their README
	@EMBKIT_PROFILE=workshop $(BIN)/python -m notebooks.tools.course run --write-back $(if $(NB),--only $(NB))

site: $(STAMP) ## the executed lessons as a static site: build/site/index.html
	@$(BIN)/python -m notebooks.tools.site

handout: $(STAMP) ## lessons, glossary and quiz as a PDF: build/handout.pdf (NB=04 one lesson)
	@$(BIN)/python -m notebooks.tools.site handout $(if $(NB),--only $(NB))

slides: $(STAMP) ## the lessons as slides: build/slides (NB=04 one lesson)
	@$(BIN)/python -m notebooks.tools.slides $(if $(NB),--only $(NB))

PLATFORM ?= linux
bundle: assets ## a folder that installs without a network (TO=, PLATFORM=linux windows macos, FOR=3.12)
	@$(BIN)/python -m notebooks.tools.bundle $(or $(TO),build/embkit-$(PLATFORM)) \
		--platform $(PLATFORM) $(if $(FOR),--python $(FOR))

clean: ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find embkit tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
