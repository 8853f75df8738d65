# Every verb makes its own .venv first; a bare clone, Python 3.11 or later and a package index are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench pictures corpus fuzz fmt clean

demo: $(VENV)/.ready
	$(BIN)/python demo/run.py

test: $(VENV)/.ready
	$(BIN)/python -m pytest

check: $(VENV)/.ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/python docs/check_links.py

bench: $(VENV)/.ready
	$(BIN)/python bench/run.py

pictures: $(VENV)/.ready
	$(BIN)/python bench/pictures.py

corpus: $(VENV)/.ready
	$(BIN)/python docs/make_corpus.py

fuzz: $(VENV)/.ready
	REHYDRATE_FUZZ=25 $(BIN)/python -m pytest tests/pickles tests/oracle tests/formats
	$(BIN)/python -m tests.fuzz.run 40

fmt: $(VENV)/.ready
	$(BIN)/ruff check --fix-only . && $(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@
