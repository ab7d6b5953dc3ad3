# make run      the main job on an embedded local stack: see README.md
# make test     everything this machine can test; says what it left out and why
# make help     all targets
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# Most tests wait for something; two at a time halve that and keep times true.
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help run run-rubin test soak lint types tarball image wheel clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

$(STAMP): setup.cfg pyproject.toml
	@echo "installing into $(VENV), once: a minute or two" >&2
	@scripts/venv.sh $(PYTHON) $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

run: $(STAMP) ## four jobs through starter, wrapper, pilot and server on this machine
	$(BIN)/pilot-local run

run-rubin: $(STAMP) ## the same with a real Rubin payload (pipetask)
	$(BIN)/python examples/rubin/run.py

test: $(STAMP) ## every test this machine can run
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(TESTS)

# About an hour on two cores. Goes on where it was stopped with
# PILOT_SOAK_FROM=<a multiple of 5000>.
soak: $(STAMP) ## a million generated cases for the log shipper
	PILOT_SOAK=1000000 nice $(BIN)/python -m pytest -n $(WORKERS) --timeout 0 -v \
	  tests/unit/logship/test_delivery_property.py tests/unit/logship/test_familiar.py

$(VENV)/.lint: $(STAMP)
	@echo "installing ruff, mypy and shellcheck into $(VENV)" >&2
	@$(BIN)/pip install --quiet --disable-pip-version-check -e '.[lint]'
	@touch $@

lint: $(VENV)/.lint ## ruff and shellcheck
	$(BIN)/ruff check --config .ci/ruff.toml .
	$(BIN)/ruff format --config .ci/ruff.toml --check .
	git ls-files '*.sh' container/shim/docker .ci/run | xargs $(BIN)/shellcheck

types: $(VENV)/.lint ## mypy --strict
	$(BIN)/mypy -p pilot_core -p pilot_starter -p container

tarball: ## dist/pilot3.tar.gz, what wrappers in the field fetch
	scripts/tarball.sh dist/pilot3.tar.gz

image: $(STAMP) ## the container image rubin-panda-pilot:local
	scripts/images/pilot.sh

wheel: $(STAMP) ## dist/*.whl
	@$(BIN)/pip install --quiet --disable-pip-version-check build
	$(BIN)/python -m build --wheel

clean: ## remove what the targets above made
	rm -rf $(VENV) .run build dist *.egg-info
