# make demo: everything from nothing to a table of policies.  make test: the whole suite.
PYTHON ?= python3
JOBS ?= 2

.PHONY: demo test clean
.DELETE_ON_ERROR:

demo: .venv/installed
	.venv/bin/topstitch quickstart

test: .venv/installed-test
	.venv/bin/python -m pytest -n $(JOBS) --dist worksteal

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "topstitch needs Python 3.11 or newer: make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[icu]'
	touch $@

.venv/installed-test: .venv/bin/python pyproject.toml constraints.txt
	.venv/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@ .venv/installed

clean:
	rm -rf .venv runs quickstart
