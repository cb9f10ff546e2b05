# SPDX-License-Identifier: Apache-2.0
# Two commands do everything on a fresh machine with python3.11, pip, make and a package index: `make demo`, `make test`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.weir-installed

.PHONY: demo test load check bench lock protos spark clean

demo: $(STAMP)
	$(BIN)/weir demo

# On all cores; then those tests that must have the machine to themselves.
test: $(STAMP)
	$(BIN)/python -m pytest tests -n auto -m "not alone"
	$(BIN)/python -m pytest tests -m alone

# Ten minutes of overload with faults; `make test` has a shorter form of it.
load: $(STAMP)
	WEIR_LOAD_SECONDS=$${WEIR_LOAD_SECONDS:-600} $(BIN)/python -m pytest tests/faults/test_load.py -s

check: $(STAMP)
	./check

bench: $(STAMP)
	$(BIN)/python -m bench

# Everything is pinned by hash; the package itself is installed editable and without looking anything up again.
$(STAMP): requirements.lock pyproject.toml
	@echo "==> setting up $(VENV) (once; about a minute)"
	$(PYTHON) -c 'import sys; sys.exit("Weir needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

protos: $(STAMP)
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=core --grpc_python_out=core --pyi_out=core protos/weir/v1/*.proto

# Apache Spark itself, for the tests that ask a real one (450 MB, and Java 17); without it they are skipped.
spark: .spark/.installed

.spark/.installed: tests/support/spark.lock
	test -x .spark/bin/python || $(PYTHON) -m venv .spark
	.spark/bin/python -m pip install --quiet --disable-pip-version-check setuptools wheel
	.spark/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r tests/support/spark.lock
	@touch $@

# The lock names versions and hashes and no index. uv is needed only here.
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url \
	  --no-annotate --extra dev --output-file requirements.lock pyproject.toml

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .weir-demo bench/out
