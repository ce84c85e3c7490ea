# Two commands for a fresh machine: `make demo` and `make test`. The demo is the picture of the README: without FreeU, the
# mildest setting that does no harm, and published factors, which show what the operator does.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
OUTPUT ?= freeu-demo

.PHONY: demo test lint bench docs-commands notebook install clean

demo: $(VENV)/demo.stamp
	$(BIN)/freeu sweep --x preset=off,mild,sd14 --seeds 0 --output $(OUTPUT) \
	  --y "prompt=a 3d penguin on a red background|a flat car on a green background|a 3d fox on a blue background"

# Two workers on two cores; a file stays in one worker, so that what it makes is made once. Loaded models take 1 GB a worker.
test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile --durations 10

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Slow evidence: minutes of exclusive use of the machine. Results go to benchmarks/results/.
bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/bench_skip.py
	$(BIN)/python benchmarks/bench_step.py
	$(BIN)/python benchmarks/bench_import.py
	$(BIN)/python benchmarks/bench_scenes.py
	$(BIN)/python benchmarks/bench_analyze.py
	$(BIN)/python benchmarks/bench_video.py
	$(BIN)/python benchmarks/bench_flow.py

# Runs the commands of the documentation as they stand there, made small. Its table says which are left out, and why.
docs-commands: $(VENV)/dev.stamp
	$(BIN)/python scripts/docs_commands.py

# Runs docs/analyze.ipynb and keeps its outputs in it.
notebook: $(VENV)/dev.stamp
	$(BIN)/python scripts/docs_notebook.py

install: $(VENV)/dev.stamp

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/demo.stamp: pyproject.toml zoo/pyproject.toml zoo-video/pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable zoo --editable zoo-video --editable '.[demo]'
	touch $@

# U-Nets of other packages are for contract tests, which are skipped, and say so, where they cannot be had.
# freeu also without extras: only then does pip take freeu[personalize], which zoo[train] asks for, from here.
$(VENV)/dev.stamp: pyproject.toml zoo/pyproject.toml zoo-video/pyproject.toml constraints.txt tests/foreign-requirements.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --editable 'zoo[train]' --editable zoo-video --editable '.[demo,dev]'
	-$(BIN)/python -m pip install --quiet --no-deps --requirement tests/foreign-requirements.txt
	touch $@ $(VENV)/demo.stamp

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
