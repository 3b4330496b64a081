# make demo   install, make data up, train on tiles and visits and on each alone, print the table
# make ladder train the seed work's ladder of losses, five seeds a rung; finished runs in runs/ladder are kept
# make test   the test suite, a process a core; FUSIONKIT_DATA, where set, names the folder of real data
# make lint   style and types
# make docs   the documentation site, in site/; its pages open from disk

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DEMO := data/urfc_demo

.PHONY: demo ladder test lint docs

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(INSTALLED) $(DEMO)/ceiling.json
	FUSIONKIT_DATA=data $(BIN)/fusionkit run recipes/urfc_demo.yaml

ladder: $(INSTALLED) $(DEMO)/ceiling.json
	FUSIONKIT_DATA=data $(BIN)/python benchmarks/ladder.py --runs runs/ladder

# The generator writes ceiling.json last. A newer install is no reason to make the data again.
$(DEMO)/ceiling.json: | $(INSTALLED)
	$(BIN)/fusionkit data make urfc $(DEMO)

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --numprocesses logical --maxprocesses 4 --dist loadfile

lint: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

# Warnings are errors: dead links and anchors, pages in no navigation, docstrings that do not fit their signature.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
