# make demo   train on a real graph on this machine and print the table
# make up     the same system in containers, with Docker Compose
# make test   all tests but the longest; these are make test-faults, which kills processes on the way
# make check  format, lint, types, committed OpenAPI files and reference pages
# make docs   the documentation as a site, in site/
# Each does its own set-up in .venv on the first call.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# The images are Linux ones, whatever this machine is.
ARCH := $(subst arm64,aarch64,$(shell uname -m))
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)

.PHONY: install demo test test-faults check format openapi reference docs docs-deploy wheels up down

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Tripleherd needs Python 3.11 or later; give one as: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/tripleherd demo $(ARGS)

test: $(INSTALLED)
	$(BIN)/pytest -m "not faults" $(ARGS)

test-faults: $(INSTALLED)
	$(BIN)/pytest -m faults $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m tools.openapi --check
	$(BIN)/python -m tools.reference --check

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

openapi: $(INSTALLED)
	$(BIN)/python -m tools.openapi

reference: openapi
	$(BIN)/python -m tools.reference

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# To the branch gh-pages of the repository's origin, from where GitHub serves it.
docs-deploy: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs gh-deploy --strict

# A CPU wheel of torch for the images. One that is there already is kept, so this also serves sites without network.
wheels:
	@ls docker/wheels/torch-$(TORCH)*.whl >/dev/null 2>&1 || \
	  $(PYTHON) -m pip download --quiet --no-deps --retries 1 --extra-index-url $(TORCH_INDEX) \
	    --python-version 3.11 --only-binary :all: --platform manylinux_2_28_$(ARCH) --dest docker/wheels torch==$(TORCH) || \
	  echo "torch $(TORCH) could not be downloaded here; the image build will look for it itself"

up: wheels
	docker compose up --build $(ARGS)

down:
	docker compose down
