# A notebook's rule makes <step>.json in output/<experiment>/notebooks, which is written last and whole: what it
# is made from, and its products. The executed notebook is no target: papermill writes it even when a cell failed.
# Nothing is deleted where a recipe fails: every product appears under its name when it is whole.

EXPERIMENT ?= sample
SET ?=
FRESH ?=
RAW ?=
CONFIG ?=
TRANSFORMS ?=
IMAGES ?=
EXPERIMENTS ?=
NAME ?=
A ?=
B ?=
OUT ?=
FORMAT ?=
PRECISION ?=
ROI ?=
MM_PER_PIXEL ?=
MLFLOW ?=
BUDGET ?= 30min
AGREEMENT ?= 0.8
OWNER ?=
COMPETITION ?=
HOURS ?=
RUNS ?=
SECONDS ?= 60
ONLY ?=
VENV ?= .venv
KAGGLE_VENV ?= .venv-kaggle
PYTHON ?= python3

# Names become parts of paths, some of which are deleted: checked before any recipe, as text.
CHARS := a b c d e f g h i j k l m n o p q r s t u v w x y z A B C D E F G H I J K L M N O P Q R S T U V W X Y Z \
  0 1 2 3 4 5 6 7 8 9 . _ -
without = $(if $2,$(call without,$(subst $(firstword $2),,$1),$(wordlist 2,99,$2)),$1)
wrong = $(or $(strip $(call without,$1,$(CHARS))),$(filter .% -% \_%,$1),$(filter-out $2,$(words $1)))
refuse = $(error $1="$2" is no name: one word of letters, digits, dots, dashes and underscores)
$(foreach v,EXPERIMENT $(if $(strip $(value NAME)),NAME),$(if $(call wrong,$(value $v),1),$(call refuse,$v,$(value $v))))
$(foreach n,$(value EXPERIMENTS),$(if $(call wrong,$n,1),$(call refuse,EXPERIMENTS,$n)))
override EXPERIMENT := $(strip $(value EXPERIMENT))
# All other values reach Python by the environment: no shell reads them.
$(foreach v,SET RAW CONFIG TRANSFORMS IMAGES EXPERIMENTS NAME A B OUT FORMAT MLFLOW BUDGET AGREEMENT SECONDS FRESH \
  OWNER ONLY COMPETITION HOURS PRECISION ROI MM_PER_PIXEL,\
  $(eval export DEFECTMILL_$v = $$(value $v)))

YML := $(wildcard notebooks/experiments/$(EXPERIMENT).yml)
GOALS := $(or $(MAKECMDGOALS),all)
O := output/$(EXPERIMENT)
K := $(O)/settings
N := $(O)/notebooks
# It names the dataset, as Python reads YAML and SET; make makes it first, by its rule below.
ifneq ($(filter all input eda labels train predict report ablation augment plan output/% submissions/%,$(GOALS)),)
include $(K)/experiment.mk
endif
$(if $(strip $(DATASET)),$(if $(call wrong,$(DATASET),1),$(call refuse,dataset,$(DATASET))))
IN := input/$(DATASET)
I := $(K)/inputs
S := src/defectmill
PY := "$(VENV)/bin/python"
# A signal to make must reach Python, not a shell that waits for it.
RUN = exec $(PY) -m defectmill
NOTEBOOK = $(RUN) notebook $(basename $(notdir $<)) $(EXPERIMENT) --sources="$^"
INPUTS = $(PY) -m defectmill.products.inputs

export PYTHONPATH := $(CURDIR)/src
export DEFECTMILL_HOME := $(CURDIR)
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
# Steps of one experiment exclude each other, see `files.hold`.
.NOTPARALLEL:
.SUFFIXES:
.PHONY: all env input eda labels train predict report infer export golden convert kernel kernel-train push submit test test-all test-kaggle coverage fuzz bench lint augment pseudo ablation ensemble import-config new runs site results compare cost rates plan why doctor lab list help clean lock FORCE
.DEFAULT_GOAL := all

ifdef MOVES
$(error MOVES is now TRANSFORMS: make augment TRANSFORMS="elastic shear")
endif

# Modules that a step really uses, a package a step and words of the root: a change to a plot never retrains.
WORDS := $(addprefix $S/,rle.py labels.py split.py images.py)
CURATION := $(wildcard $S/curation/*.py) $(addprefix $S/,scores.py submission.py)
TRAINING := $(wildcard $S/models/*.py $S/training/*.py) $(addprefix $S/prediction/,tiles.py inference.py postprocess.py)
PREDICTION := $(wildcard $S/prediction/*.py) $(addprefix $S/,scores.py submission.py) $(addprefix $S/evaluation/,counts.py metrics.py)
PREDICTION += $(addprefix $S/curation/,drift.py duplicates.py suspects.py)
EVALUATION := $(wildcard $S/evaluation/*.py $S/evaluation/templates/* $S/evaluation/templates/*/*) $S/products/provenance.py
DRAWING := $(wildcard $S/viz/*.py $S/viz/*.j2) $S/scores.py

# A product beside a rule's target that somebody deleted is made again.
lost = $(if $(filter-out $(wildcard $1),$1),FORCE)

## all: everything for EXPERIMENT (default: sample), then its score; settings: SET="training.epochs=3"
all: eda $(O)/report.html
	@$(RUN) summary $(EXPERIMENT)

## env: create the environment in VENV (default: .venv) from requirements.lock
env: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	@sh .ci/make-env

$(KAGGLE_VENV)/.installed: .ci/requirements-kaggle.txt pyproject.toml
	@VENV="$(KAGGLE_VENV)" sh .ci/make-env .ci/requirements-kaggle.txt

## input: make input/DATASET; real datasets need RAW=<folder as its source ships it>
input: $(IN)/dataset.json

# RAW is compared with what the dataset was made from, an edited description of one's own dataset needs it.
$(IN)/dataset.json: $(if $(filter sample,$(DATASET)),$(wildcard $S/datasets/sample/*.py)) $(wildcard $(IN)/info.json) \
  $(if $(strip $(value RAW)),FORCE) | $(VENV)/.installed
	@$(INPUTS) made $(IN) "$$DEFECTMILL_RAW" $(filter %.py,$?) || { [ $$? = 3 ] && $(RUN) input $(DATASET); }

# A line for each part of the input, touched only where its content changed; nothing writes a file `scan`.
$(addprefix $I/,train.csv train_images test_images sample_submission.csv solution.csv dataset.json): $I/scan ;
$I/scan: FORCE | $(IN)/dataset.json
	@$(INPUTS) scan $(IN) $I

## eda: 01, look at the data
eda: $(O)/eda.csv
## labels: 02, label table, image table, folds, audit
labels: $(O)/leaks.csv
## train: 03, the model, or the models of all folds
train: $(O)/networks.json
## predict: 04, masks and the submission
predict: submissions/$(EXPERIMENT).csv
## report: 05, scores and report.html
report: $(O)/report.html

EDA := notebooks/01_eda.ipynb $(WORDS) $(CURATION) $(DRAWING) $(K)/labels.json \
  $(addprefix $I/,train.csv train_images dataset.json)
$(N)/01_eda.json: $(EDA) $(call lost,$(O)/eda.csv)
	@$(NOTEBOOK)

$(O)/eda.csv: $(N)/01_eda.json ;

# 02 writes the two tables only where they change: a new audit never retrains.
LABELS := notebooks/02_labels.ipynb $(WORDS) $(CURATION) $(K)/labels.json \
  $(addprefix $I/,train.csv train_images test_images sample_submission.csv solution.csv dataset.json)
TABLES := $(addprefix $(O)/,images.csv labels.csv scans.npz audit.csv leaks.csv)
$(N)/02_labels.json: $(LABELS) $(call lost,$(TABLES) $(O)/labelled.json \
  $(if $(wildcard $(IN)/solution.csv),$(O)/test_images.csv))
	@$(NOTEBOOK)

$(TABLES): $(N)/02_labels.json ;

# The test part counts for a last fit alone; an ensemble asks its members each time. Which networks must be
# trained is decided by hashes, and networks.json stays as it is where none was. Only who asks for a training, or
# for all, replaces a network that is there.
$(K)/trained: notebooks/03_train.ipynb $(WORDS) $(TRAINING) $(K)/train.json $(O)/images.csv $(O)/labels.csv \
  $(addprefix $I/,train_images test_images solution.csv dataset.json) $(wildcard $(NETWORKS)) \
  $(call lost,$(O)/networks.json $(NETWORKS) $(NETWORKS:model.keras=history.csv) $(NETWORKS:model.keras=curves.png)) \
  $(MEMBERS)
	@$(RUN) train $(EXPERIMENT) $(if $(filter all train,$(GOALS)),,--keep)
	@touch $@

$(O)/networks.json: $(K)/trained ;

PREDICT := notebooks/04_predict.ipynb $(WORDS) $(PREDICTION) $(K)/predict.json $(O)/networks.json \
  $(addprefix $I/,test_images sample_submission.csv dataset.json)
CHOSEN := $(addprefix $(O)/,thresholds.json threshold_search.csv validation.csv evaluation.csv precision_recall.csv \
  image_curves.csv suspects.csv nested.npy training_statistics.json dataset.json predicted.json)
$(N)/04_predict.json: $(PREDICT) $(call lost,$(CHOSEN) submissions/$(EXPERIMENT).csv)
	@$(NOTEBOOK)

submissions/$(EXPERIMENT).csv: $(N)/04_predict.json ;

# A report also keeps the run, in output/EXPERIMENT/runs.
REPORT := notebooks/05_report.ipynb $(wildcard $(O)/ablation.csv) $(EVALUATION) $(DRAWING) $(CURATION) $S/submission.py \
  $(O)/leaks.csv $(O)/audit.csv $(O)/networks.json submissions/$(EXPERIMENT).csv \
  $(addprefix $I/,train.csv train_images solution.csv dataset.json)
$(N)/05_report.json: $(REPORT) $(call lost,$(O)/report.html $(O)/scores.json)
	@$(NOTEBOOK)

$(O)/report.html: $(N)/05_report.json ;

## why: what make would do again for EXPERIMENT (SET counts), a line a step, and why; does nothing of it
why: $(VENV)/.installed
	@$(RUN) why $(EXPERIMENT) --sources="$(EDA) $(LABELS) $(PREDICT) $(REPORT)"

## ablation: what each setting of notebooks/ablations/EXPERIMENT.yml is worth, an arm each; goes on where it stopped
ablation: $(VENV)/.installed $(if $(YML),$(IN)/dataset.json)
	@$(RUN) ablation $(EXPERIMENT)

## ensemble: EXPERIMENTS="a b" NAME=c, an experiment c that averages their probabilities
ensemble: $(VENV)/.installed
	@$(RUN) ensemble
	@exec $(MAKE) EXPERIMENT="$(NAME)"

## infer: the defects in IMAGES=<folder>: OUT=<folder> gets masks, tables and index.html; FORMAT=coco,yolo adds those
# ROI=<picture or .json> and MM_PER_PIXEL=<number> count for infer and export alike.
# Nothing is trained for it; the settings are those that the model was last made with.
infer: $(VENV)/.installed
	@$(RUN) infer $(EXPERIMENT)

## export: networks of EXPERIMENT as FORMAT=onnx|openvino|litert (or several), PRECISION=float|int8, in OUT=<folder>
export: $(VENV)/.installed
	@$(RUN) export $(EXPERIMENT)

## golden: the golden pictures of the exports of EXPERIMENT, or of OUT=<folder>, again; fails where masks drift
golden: $(VENV)/.installed
	@$(RUN) golden $(EXPERIMENT)

## convert: labels of NAME=<dataset or experiment> as FORMAT=coco|yolo|labelme|masks|csv (or several) in OUT=<folder>
convert: $(VENV)/.installed
	@$(RUN) convert

## kernel: output/EXPERIMENT/kernel, what Kaggle runs: OWNER=<your name there>, COMPETITION=<its name>, HOURS=9
# Nothing is trained or predicted for it; it has the networks and thresholds of now.
kernel: $(VENV)/.installed
	@$(RUN) kernel $(EXPERIMENT)

## kernel-train: the same of a training on a T4; HOURS=12 a session, each make push goes on with it
kernel-train: $(VENV)/.installed
	@$(RUN) kernel-train $(EXPERIMENT)

## push: uploads what make kernel or kernel-train wrote, runs it there, waits, brings back what it made
push: $(VENV)/.installed
	@$(RUN) push $(EXPERIMENT)

## submit: what was pushed, else submissions/EXPERIMENT.csv, to COMPETITION; waits and prints the score
submit: $(VENV)/.installed
	@$(RUN) submit $(EXPERIMENT)

# The settings of each stage, touched only where they change; SET counts as part of the experiment.
ifneq ($(strip $(value SET)),$(strip $(shell cat $(K)/set.txt 2>/dev/null)))
$(K)/set.txt: FORCE
endif
$(K)/set.txt:
	@mkdir -p $(K) && printf '%s\n' "$$DEFECTMILL_SET" > $@

$(K)/experiment.mk: $(YML) $S/config.py $S/settings.py $S/running/stages.py $(K)/set.txt | $(VENV)/.installed
	@($(RUN) settings $(EXPERIMENT)) || { rm -f $(K)/set.txt; rmdir $(K) $(O) 2>/dev/null; exit 1; }

$(K)/labels.json $(K)/train.json $(K)/predict.json: $(K)/experiment.mk ;

## runs: the finished runs of EXPERIMENT: settings, scores, minutes; SET of one brings it back; MLFLOW=sqlite:///... exports
runs: $(VENV)/.installed
	@$(RUN) runs $(EXPERIMENT)

## site: output/index.html, all experiments that were run here side by side, and the runs of each
site: $(VENV)/.installed
	@$(RUN) site

## results: the README's table of results, from output/
results: $(VENV)/.installed
	@$(RUN) results

## compare: does B=<run> beat A=<run>? differences with intervals; seeds of a recipe: B="x x-seed1"
compare: $(VENV)/.installed
	@$(RUN) compare

## test: set up and run the tests (under 5 minutes)
test: $(VENV)/.installed
	@exec $(PY) -m pytest -m "not slow"

## test-all: the slow tests too; with .venv-kaggle (make test-kaggle) also what Kaggle is sent, run there
test-all: $(VENV)/.installed
	@exec $(PY) -m pytest

## coverage: how much of src the tests run, by line and branch, those of the kernels aside (about twice as long)
coverage: export COVERAGE_FILE := $(CURDIR)/.coverage/data
coverage: $(VENV)/.installed
	@rm -rf .coverage && mkdir .coverage && $(PY) -m coverage run -m pytest -q -m "not slow"
	@$(PY) -m coverage combine -q && $(PY) -m coverage report --skip-covered

## fuzz: damaged files and strings for every reader, for SECONDS=60; what is not refused in a line is kept
fuzz: $(VENV)/.installed
	@PYTHONPATH="$$PYTHONPATH:$(CURDIR)/tests" $(PY) -m fuzzing

## test-kaggle: the tests in an environment of Kaggle's versions, KAGGLE_VENV (default: .venv-kaggle)
test-kaggle: $(KAGGLE_VENV)/.installed
	@"$(KAGGLE_VENV)/bin/python" -m pytest -m "not slow"

## bench: how fast the parts are beside what is usual, as ratios: a table, output/bench.json; ONLY=rle measures one
bench: $(VENV)/.installed
	@PYTHONPATH="$$PYTHONPATH:$(CURDIR)/tests" $(PY) -m benchmarks

## lint: ruff, the layers of the house, types
lint: $(VENV)/.installed
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && "$(VENV)/bin/lint-imports" && $(PY) -m mypy

## augment: input/<dataset>-augmented, transformed copies of the training images; TRANSFORMS="elastic shear"
augment: $(IN)/dataset.json
	@$(RUN) augment $(DATASET)

## pseudo: input/<dataset>-pseudo, with images of IMAGES=<folder> that the fold networks label alike
# By the settings that the networks were last made with, as infer.
pseudo: $(VENV)/.installed
	@$(RUN) pseudo $(EXPERIMENT)

## import-config: CONFIG=<train_eval_infer.config of FlexUNet> becomes an experiment
import-config: $(VENV)/.installed
	@$(RUN) import-config $(if $(filter-out sample,$(EXPERIMENT)),--name=$(EXPERIMENT))

## cost: what EXPERIMENT would take on this machine, from two steps of its network
cost: $(VENV)/.installed
	@$(RUN) cost $(EXPERIMENT)

## rates: learning-rate finder: trains 100 steps of EXPERIMENT, suggests training.learning_rate
rates: $(VENV)/.installed
	@$(RUN) rates $(EXPERIMENT)

## new: NAME=my-parts RAW=<folder or file>: reads what is there, writes its description and an experiment; BUDGET=30min
new: $(VENV)/.installed
	@$(RUN) new

## plan: settings for EXPERIMENT that fit BUDGET=30min on this machine, with reasons: plan.yml
plan: $(O)/images.csv
	@$(RUN) plan $(EXPERIMENT)

## lab: JupyterLab in notebooks/
lab: $(VENV)/.installed
	@exec $(PY) -m jupyter lab --notebook-dir=notebooks

## doctor: what this machine and this folder need: Python, packages, processor, GPU, memory, disks, token, datasets
doctor: $(VENV)/.installed
	@$(RUN) doctor

## list: experiments with dataset, model, cost and last measured score
list: $(VENV)/.installed
	@$(RUN) list

## help: this
help:
	@sed -n 's/^## \([a-z-]*\): /\1 /p' Makefile | while read -r name what; do \
	  printf '  make %-13s %s\n' "$$name" "$$what"; done

## clean: delete what EXPERIMENT produced; input/ stays, and its finished runs unless RUNS=all
clean: $(VENV)/.installed
	@$(RUN) clean $(EXPERIMENT) $(if $(filter all,$(RUNS)),--runs)

## lock: resolve requirements.lock anew (needs uv)
lock:
	uv pip compile -q --universal --generate-hashes --no-annotate --no-header --fork-strategy fewest \
	  --python-version 3.11 --extra dev pyproject.toml -o requirements.lock
