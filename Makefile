# The contributor's manual: every target sets up what it needs (.venv, pinned packages, this package).

PYTHON ?= python3
DATA ?= ../shared/data
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
ONLY ?= fisher,siamese,absolute,bright-w,z-robust,z-absolute
EXAMPLE := packaging/example/sub-FG6692_FLAIR.nii.gz
# Tests that need the development data run where that folder exists and say that they are skipped elsewhere.
export UAD_DATA := $(if $(wildcard $(DATA)/ixi_t1),$(abspath $(DATA)),)

.PHONY: help demo test test-fast test-tools fuzz soak check docs lint-packaging format build build-slim publish-weights bench bench-compare bench-reference bench-gpu eval-dev table train-default clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

$(READY): pyproject.toml packaging/constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c packaging/constraints.txt torch==2.13.0 -e ".[dev]"
	$(BIN)/python -m compileall -q -j 0 -x '/tests?/|/torch/testing/_internal/' $(VENV)/lib  # pip would do it on one core, with the packages' tests
	touch $(READY)

demo: $(READY)  ## find the lesion in a real patient's FLAIR; ends with where map, mask and picture are
	@$(BIN)/uad detect $(EXAMPLE) -o demo/map.nii.gz --overwrite
	@echo "map      demo/map.nii.gz"
	@echo "mask     demo/map_mask.nii.gz"
	@echo "picture  demo/map_overlay.png"
	@echo "findings demo/map.json"

test-tools: $(READY)  ## install what some tests drive: Chromium, SLURM, zsh, fish, GNU parallel, Snakemake
	@PYTHON=$(PYTHON) bash packaging/test-tools.sh $(VENV)/snakemake

test: $(READY) test-tools  ## all tests (no GPU; the network only to install what they drive)
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses 2 --dist loadgroup --durations=15

test-fast: $(READY)  ## the fast tests alone, without the tools
	$(BIN)/python -m pytest -q -m "not slow"

fuzz: $(READY)  ## damaged scans, CASES=100000 of them from FIRST=0 on, and a tenth as many of each kind of other file
	UAD_FUZZ=$(or $(CASES),100000) UAD_FUZZ_FIRST=$(or $(FIRST),0) $(BIN)/python -m pytest -q tests/fuzz

soak: $(READY)  ## detections, batches and trainings killed at KILLS=2000 random moments, from the number FIRST=0 on
	UAD_SOAK=$(or $(KILLS),2000) UAD_SOAK_FIRST=$(or $(FIRST),0) $(BIN)/python -m pytest -q --timeout 7200 tests/soak

check: $(READY)  ## format, lint, types and the fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m "not slow"

docs: $(READY)  ## write the command-line reference anew, packaging/docs/cli.md
	$(BIN)/python -m typer uadcli.cli.app utils docs --name uad --output packaging/docs/cli.md

lint-packaging: $(READY)  ## lint Dockerfiles, the Apptainer definition, the SLURM script and the Snakemake workflow
	$(BIN)/hadolint packaging/containers/Dockerfile.cpu packaging/containers/Dockerfile.cuda
	$(BIN)/shellcheck packaging/slurm/array.sh packaging/test-tools.sh
	$(BIN)/python -m pytest -q tests/unit/test_packaging.py

format: $(READY)  ## format, and fix what lint can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

build: $(READY)  ## wheel and source archive in dist/
	$(BIN)/python -m build --outdir dist

build-slim: $(READY)  ## the wheel without weights in dist/slim/; needs the addresses that publish-weights writes
	$(BIN)/python packaging/release/build_slim.py

publish-weights: $(READY)  ## push the bundled models to the Hub, REPO=owner/name (HF_TOKEN), and pin them in weights/registry.toml
	$(BIN)/python packaging/release/publish_weights.py $(or $(REPO),$(error give REPO=owner/name))

bench: $(READY)  ## seconds per stage, peak memory, share of the matrix rate, cost over input; writes bench.json (JSON=)
	$(BIN)/python packaging/benchmarks/functions.py
	$(BIN)/python packaging/benchmarks/detection.py $(DATA) --json $(or $(JSON),bench.json)

bench-compare: $(READY)  ## fail if bench.json (JSON=) is slower than the committed run, each in units of a fixed loop
	$(BIN)/python packaging/benchmarks/compare.py $(or $(JSON),bench.json)

bench-reference: $(READY)  ## the published inference next to ours on the same slices: seconds, memory, ratios (DEVICE=)
	$(BIN)/python packaging/benchmarks/reference.py --device $(or $(DEVICE),auto)

bench-gpu: $(READY)  ## everything about a GPU in under ten minutes: inference, training, memory, whole commands (DEVICE=)
	$(BIN)/python packaging/benchmarks/gpu.py --device $(or $(DEVICE),auto)

eval-dev: $(READY)  ## the development cases next to the plain baseline, and joined contrasts; ONLY= for every score
	$(BIN)/python packaging/evaluation/eval_dev.py $(DATA) --only "$(ONLY)"
	$(BIN)/python packaging/evaluation/join_dev.py $(DATA)

table: $(READY)  ## methods x scores on the development cases in an hour; STEPS=1000 CASES=20 for longer and of more
	$(BIN)/python packaging/evaluation/table.py $(DATA) --steps $(or $(STEPS),200) --cases $(or $(CASES),3)

train-default: $(READY)  ## continue training the bundled models, in runs/default; the same command again resumes
	PYTHONPATH=packaging/evaluation $(BIN)/python packaging/models/train_default.py $(DATA) --names next-flair next-t1w

clean:  ## remove what the targets made, but neither caches of scans nor runs
	rm -rf $(VENV) dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
