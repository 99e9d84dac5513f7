# Every rule makes one data product. The executed notebook is never a target: papermill writes
# it even when a cell failed.

EXPERIMENT ?= sample
SET ?=
RAW ?=
VENV ?= .venv
PYTHON ?= python3
YML := $(wildcard notebooks/experiments/$(EXPERIMENT).yml)
DATASET ?= $(if $(YML),$(shell sed -n 's/^dataset: *\([^ ]*\).*/\1/p' $(YML)))

IN := input/$(DATASET)
O := output/$(EXPERIMENT)
K := $(O)/knobs
S := src/defectmill
PY := "$(VENV)/bin/python"
NOTEBOOK = $(PY) -m defectmill.runner notebook $(basename $(notdir $<)) "$(EXPERIMENT)" "$(SET)"

export PYTHONPATH := $(CURDIR)/src
export NO_ALBUMENTATIONS_UPDATE := 1
export TF_CPP_MIN_LOG_LEVEL := 3
export TF_ENABLE_ONEDNN_OPTS := 1
export PYDEVD_DISABLE_FILE_VALIDATION := 1
export VENV PYTHON
# glibc gives a freed tensor back to the system and faults its pages in again at every step; kept,
# training takes half the time (mallopt(3)). Other systems ignore both.
export MALLOC_MMAP_MAX_ := 0
export MALLOC_TRIM_THRESHOLD_ := 17179869184

MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.SUFFIXES:
CONFIG ?=
MOVES ?=
IMAGES ?=
OUT ?=
.PHONY: all env input eda labels train predict report infer test test-all lint augment import-config site results cost lab list help clean lock FORCE
.DEFAULT_GOAL := all

# Modules that a step really uses: a change to a plot never retrains.
BASE := $(addprefix $S/,rle.py labels.py image_table.py images.py cards.py palette.py)
FOLDS := $(addprefix $S/,folds.py groups.py shots.py leaks.py scores.py) $(wildcard $S/audit/*.py)
NETWORK := $(wildcard $S/models/*.py) $(addprefix $S/,sequence.py held_out.py pictures.py tiles.py windows.py batches.py augment.py warps.py losses.py training.py)
MASKS := $(addprefix $S/,inference.py batches.py tiles.py windows.py postprocess.py trials.py rules.py submission.py scores.py tally.py panel.py)
PAGES := $(wildcard $S/templates/*) $(addprefix $S/,report.py report_parts.py pages.py charts.py gallery.py provenance.py leaks.py)

## all: everything for EXPERIMENT (default: sample), then its score; knobs: SET="training.epochs=3"
all: eda $(O)/report.html
	@$(PY) -m defectmill.runner summary "$(EXPERIMENT)"

## env: create the environment in VENV (default: .venv) from requirements.lock
env: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@sh .ci/make-env

## input: make input/DATASET; real datasets need RAW=<folder as its source ships it>
input: $(IN)/dataset.json

$(IN)/dataset.json: $(if $(filter sample,$(DATASET)),$(S)/datasets/sample.py $(S)/datasets/steel_texture.py $(S)/datasets/steel_defects.py) | $(VENV)/.installed $(if $(YML),$(K)/stamp)
	@$(PY) -m defectmill.datasets "$(DATASET)" --raw "$(RAW)"

## eda: 01, look at the data
eda: $(O)/eda.csv
## labels: 02, label table, image table, folds, audit
labels: $(O)/leaks.csv
## train: 03, the model
train: $(O)/model.keras
## predict: 04, masks and the submission
predict: submissions/$(EXPERIMENT).csv
## report: 05, scores and report.html
report: $(O)/report.html

$(O)/eda.csv: notebooks/01_eda.ipynb $(BASE) $S/plots.py $S/overlays.py $S/viewer.py $(K)/labels.json $(IN)/dataset.json
	@$(NOTEBOOK)

# 02 writes leaks.csv last, and the two tables only where they change: a new audit never retrains.
$(O)/leaks.csv: notebooks/02_labels.ipynb $(BASE) $(FOLDS) $(K)/labels.json $(IN)/dataset.json
	@$(NOTEBOOK)

$(O)/images.csv $(O)/labels.csv: $(O)/leaks.csv ;

$(O)/model.keras: notebooks/03_train.ipynb $(BASE) $(NETWORK) $(K)/train.json $(O)/images.csv $(O)/labels.csv
	@$(NOTEBOOK)

submissions/$(EXPERIMENT).csv: notebooks/04_predict.ipynb $(BASE) $(MASKS) $(K)/predict.json $(O)/model.keras
	@$(NOTEBOOK)
	@cp $(K)/set.txt $(K)/predicted.txt

$(O)/report.html: notebooks/05_report.ipynb $S/run_plots.py $S/overlays.py $S/scores.py $S/tally.py $S/panel.py $(PAGES) submissions/$(EXPERIMENT).csv
	@$(NOTEBOOK)

## infer: masks and a table of defects of IMAGES=<folder>, written to OUT=<folder>
# Nothing is trained for it; the knobs are those that the model was last made with.
infer: $(VENV)/.installed
	@$(PY) -m defectmill.runner infer "$(EXPERIMENT)" "$(or $(strip $(SET)),$(shell cat $(K)/predicted.txt 2>/dev/null))" "$(IMAGES)" "$(OUT)"

# The knobs of each stage, touched only where they change; SET counts as part of the experiment.
ifneq ($(strip $(SET)),$(strip $(shell cat $(K)/set.txt 2>/dev/null)))
$(K)/set.txt: FORCE
endif
$(K)/set.txt:
	@mkdir -p $(K) && printf '%s\n' "$(strip $(SET))" > $@

$(K)/stamp: $(YML) $(S)/config.py $(K)/set.txt | $(VENV)/.installed
	@$(PY) -m defectmill.runner knobs "$(EXPERIMENT)" "$(SET)" || { rm -rf $(K); rmdir $(O) 2>/dev/null; exit 1; }
	@touch $@

$(K)/labels.json $(K)/train.json $(K)/predict.json: $(K)/stamp ;

## site: output/index.html, all experiments that were run here side by side
site: $(VENV)/.installed
	@$(PY) -m defectmill.site

## results: the README's table of results, from output/
results: $(VENV)/.installed
	@$(PY) -m defectmill.site readme

## test: set up and run the tests (under 5 minutes)
test: $(VENV)/.installed
	@$(PY) -m pytest -m "not slow"

## test-all: the slow tests too
test-all: $(VENV)/.installed
	@$(PY) -m pytest

## lint: ruff and the layers of the house
lint: $(VENV)/.installed
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && "$(VENV)/bin/lint-imports"

## augment: input/<dataset>-augmented, warped copies of the training pictures; MOVES="elastic shear"
augment: $(IN)/dataset.json
	@$(PY) -m defectmill.datasets.augmented "$(DATASET)" $(MOVES)

## import-config: CONFIG=<train_eval_infer.config of FlexUNet> becomes an experiment
import-config: $(VENV)/.installed
	@$(PY) -m defectmill.runner import-config "$(CONFIG)" "$(if $(filter sample,$(EXPERIMENT)),,$(EXPERIMENT))"

## cost: what EXPERIMENT would take on this machine, from two steps of its network
cost: $(VENV)/.installed
	@$(PY) -m defectmill.runner cost "$(EXPERIMENT)" "$(SET)"

## lab: JupyterLab in notebooks/
lab: $(VENV)/.installed
	@$(PY) -m jupyter lab --notebook-dir=notebooks

## list: experiments with dataset, model, cost and last measured score
list: $(VENV)/.installed
	@$(PY) -m defectmill.runner list

## help: this
help:
	@sed -n 's/^## \([a-z-]*\): /\1 /p' Makefile | while read -r name what; do \
	  printf '  make %-13s %s\n' "$$name" "$$what"; done

## clean: delete what EXPERIMENT produced (input/ stays)
clean:
	rm -rf "$(O)" "submissions/$(EXPERIMENT).csv"

## lock: resolve requirements.lock anew (needs uv)
lock:
	uv pip compile -q --universal --generate-hashes --no-annotate --no-header --fork-strategy fewest \
	  --python-version 3.11 --extra dev pyproject.toml -o requirements.lock
