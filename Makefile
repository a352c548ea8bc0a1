# Two commands matter: `make demo` and `make test`. Both make .venv on first use and start at once afterwards.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Compiled when first imported: of the hundred packages' modules few ever are.
PIP := $(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt
DEMO ?= demo
# The package that it lies in imports it too, which runpy would warn of.
VIEWER := $(BIN)/python -W ignore::RuntimeWarning -m shiftkit.reports.niivue
# One thread a test process: pytest-xdist already uses every core.
THREADS := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

# Kept once they are compiled: the tests start hundreds of processes, each of which would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo study test lint types format doctest docs gallery reference-models reference-statistics viewer wheel clean
.DEFAULT_GOAL := test

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=24"

$(VENV)/demo.done: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable .
	touch $@

$(VENV)/test.done: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable ".[test]"
	touch $@

$(VENV)/dev.done: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable ".[dev]"
	touch $@

$(VENV)/docs.done: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable ".[docs]"
	touch $@

demo: $(VENV)/demo.done
	@$(VIEWER) --optional
	@test ! -e $(DEMO)/report.html || echo "$(DEMO)/report.html is there already; 'rm -r $(DEMO)' makes it anew."
	@test -e $(DEMO)/report.html || $(BIN)/shiftkit demo --out $(DEMO) --resume
	@echo "Open $(DEMO)/report.html in a browser."

# The published design on the phantom, in build/study; STUDY=full needs a GPU. Interrupted, the same command goes on.
STUDY ?= small
PHANTOM_small := --n-healthy 40 --n-glioma 24 --spacing 4 --target severe --seed 1
PHANTOM_full := --n-healthy 100 --n-glioma 60 --spacing 3 --target severe --seed 1
study: $(VENV)/demo.done
	$(BIN)/shiftkit phantom build/study/$(STUDY)/phantom $(PHANTOM_$(STUDY))
	$(BIN)/shiftkit study benchmarks/study/$(STUDY).toml --out build/study/$(STUDY)/study --resume
	@echo "Open build/study/$(STUDY)/study/report.html in a browser."

# What lint installs has all that the tests need: nothing is installed twice. The longest file goes first and the
# shortest, examples in docstrings, go last, so that both workers end together.
test: $(or $(wildcard $(VENV)/dev.done),$(VENV)/test.done)
	@$(VIEWER) --optional
	$(THREADS) $(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder --durations 40 --doctest-modules tests/test_documentation.py tests shiftkit

lint: $(VENV)/dev.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/dev.done
	$(BIN)/pyright

format: $(VENV)/dev.done
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The site, with every notebook run: build/docs/index.html.
docs: $(VENV)/docs.done
	$(THREADS) $(BIN)/sphinx-build -W --keep-going --quiet --doctree-dir build/doctrees docs build/docs

# An example report, in build/example, and its pictures in docs/gallery: ten minutes of processor time and Chromium.
gallery: $(VENV)/dev.done
	@$(VIEWER) --optional
	@test -e build/example/report.html || $(BIN)/shiftkit demo --out build/example --resume
	$(BIN)/python docs/gallery.py build/example
	@echo "The example report: build/example/report.html; its pictures: docs/gallery."

# The built-in model: an hour or two on two cores, minutes on a GPU. Then its table and card; REAL names the folder of a
# real subject, in TractSeg's layout.
MODELS ?= reference
reference-models: $(VENV)/demo.done
	$(BIN)/python benchmarks/models.py --work build/models --train $(MODELS)
	for name in $(MODELS); do cp -R build/models/models/$$name/. shiftkit/models/$$name || exit; done
	$(BIN)/python benchmarks/models.py --work build/models --evaluate $(if $(REAL),--real $(REAL)) --out benchmarks/models.md

# What the images of `reference` were like, which was made before that was kept in checkpoints; its weights stay.
reference-statistics: $(VENV)/demo.done
	$(BIN)/python -c "from pathlib import Path; from shiftkit import load_cohort; \
	from shiftkit.segmentation.training.recipes import recall_images; \
	print(recall_images(Path('shiftkit/models/reference'), load_cohort('healthy')), 'participants')"

# niivue lies in reports/vendor; after a change of version it is fetched with npm and checked against its digest.
viewer: $(VENV)/demo.done
	$(VIEWER)

wheel: $(VENV)/dev.done
	@$(VIEWER) --optional
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf build dist *.egg-info $(DEMO)
