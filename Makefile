# Every target makes the environment first. Python: `make PYTHON=python3.12 ...`
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SEEDS ?= 1
DATA ?= data
READY := $(VENV)/.ready

.PHONY: demo demo-personal demo-tictactoe demo-claims real test test-proof test-peers check format bench base clean clean-environment

$(READY): constraints.txt pyproject.toml scripts/environment
	scripts/environment $(PYTHON) $(VENV)
	touch $@

demo: $(READY)            ## the whole loop on the embedded world; writes runs/demo/report.html
	$(BIN)/assent demo --out runs/demo --seeds $(SEEDS) --overwrite

demo-personal: $(READY)   ## people of different tastes: a policy for each group; writes runs/demo-personal/report.html
	$(BIN)/assent demo --personal --out runs/demo-personal --seeds $(SEEDS) --overwrite

demo-tictactoe: $(READY)  ## a small model learns tic-tac-toe; writes runs/tictactoe/tictactoe.html to play against it
	$(BIN)/assent tictactoe --out runs/tictactoe --overwrite

demo-claims: $(READY)     ## do the demo's claims hold with five seeds? about half an hour on two cores
	$(BIN)/python -m benchmarks.demo_claims

real: $(READY)            ## three jobs on a real chat model and real data, `make real DATA=DIR`: docs/real-jobs.md
	$(BIN)/python -m examples.real.preferences --data $(DATA)
	$(BIN)/python -m examples.real.detoxify --data $(DATA)
	$(BIN)/python -m examples.real.arithmetic --data $(DATA)

test: $(READY)            ## all tests
	scripts/browser
	scripts/postgres
	scripts/axe
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-proof: $(READY)      ## the real model against transformers, peft, vLLM and lm-evaluation-harness; half an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -m proof tests/real

test-peers: $(READY)      ## losses against trl, openrlhf and verl, suites against lm-eval; benchmarks/make_*.sh come first
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -m peers tests/peers

check: $(READY)           ## format, lint, types, fast tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not browser"

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)           ## fixed workloads against the machine's limits and the peers; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks.run
	$(BIN)/python -m benchmarks.compare
	$(BIN)/python -m benchmarks.studio_load

base: $(READY)            ## pretrain the base model that ships with the package, same bits each time
	scripts/base

clean:
	rm -rf runs .pytest_cache .mypy_cache .ruff_cache

clean-environment:
	rm -rf $(VENV)
