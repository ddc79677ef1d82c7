# The whole house from a fresh checkout: each target makes .venv and installs the package when pyproject.toml changed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

export HF_HUB_OFFLINE := 1
export TRANSFORMERS_OFFLINE := 1
export HF_DATASETS_OFFLINE := 1

.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-speed bench-sdxl bench-tabletop lint clean

help:
	@echo "make demo         learn one subject, insert it three times, write demo/sheet.png"
	@echo "make test         install the test extras, check style, run the whole suite"
	@echo "make bench        bench-speed, then the numbers of the model card into benchmarks/results/"
	@echo "make bench-speed  calls, FLOPs, bytes, and ratios of times to stock diffusers (minutes)"
	@echo "make bench-tabletop  methods against each other: the paper's tables on Tabletop, into bench/ (hours; resumes)"
	@echo "make bench-sdxl   SDXL's size with random weights end to end; skips without a CUDA device"
	@echo "make lint         ruff and mypy (strict; reads torch's types, so a minute when cold)"
	@echo "make clean        remove what the other targets made (the virtual environment stays)"

demo: $(VENV)/.installed
	$(BIN)/intarsia demo --output demo --overwrite

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

bench: bench-speed $(VENV)/.installed-engine
	$(BIN)/python -m intarsia.evaluation --output benchmarks/results/miniature.json
	$(BIN)/python -m intarsia.evaluation --bench zero_shot --output benchmarks/results/zero_shot.json \
		--only reference both beta chain quadruplets kills \
		--plot docs/images/beta_sweep.png --sheet docs/images/zero_shot.png
	$(BIN)/python -m intarsia.evaluation --bench add --output benchmarks/results/add.json \
		--only add finishes removal_success engine_same kills edit_detection --card MODEL_CARD.md

bench-speed: $(VENV)/.installed
	$(BIN)/python -m intarsia.evaluation.speed --threads 1 --output benchmarks/results/speed.json

bench-sdxl: $(VENV)/.installed
	$(BIN)/python -m intarsia.evaluation.speed --sdxl --output benchmarks/results/sdxl_speed.json

bench-tabletop: $(VENV)/.installed-dev
	$(BIN)/intarsia bench tabletop --output bench

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf demo runs build dist .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Intarsia needs Python 3.11 or newer; point at one with: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) install -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) install -e '.[dev]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-engine: pyproject.toml | $(BIN)/python
	$(PIP) install -e '.[engine]'
	@touch $@ $(VENV)/.installed
