# SPDX-License-Identifier: Apache-2.0
# "make demo" and "make test" need a Debian 12 machine and root; they install what is missing.

# The last line that prepare prints is the Python of the virtual environment.
PREPARE = python=$$(tests_functional/prepare)
.SHELLFLAGS = -euc
.ONESHELL:

.PHONY: help demo test test-all unit functional crash-matrix ramdisk package docs man lint clean

help:
	@echo "make demo        deploy a virtual node, boot it and show proof"
	echo "make test        unit tests, then functional tests"
	echo "make test-all    the same and what that leaves out; takes hours"
	echo "make unit        unit tests"
	echo "make functional  functional tests; ARGS='-k two_disks --keep' goes to pytest"
	echo "make crash-matrix  cut the power at every boundary between two steps; takes an hour"
	echo "make ramdisk     build the deploy ramdisk; ARGS='--output DIR' makes media, too"
	echo "make package     build Debian packages for systems that run into dist; ARGS='bookworm' is one release"
	echo "make docs        build the documentation into doc/build"
	echo "make man         build the manual pages into doc/build/man"
	echo "make lint        ruff, mypy and the contract of imports"
	echo "make clean       remove what was built in this checkout; BAREON_CACHE stays"

demo:
	@$(PREPARE)
	exec "$$python" -m tests_functional.demo $(ARGS)

test:
	@$(PREPARE)
	"$$python" -m pytest -n auto --durations=10 bareon/tests
	"$$python" -m pytest tests_functional

test-all:
	@$(PREPARE)
	"$$python" -m pytest -n auto --durations=10 bareon/tests --thorough
	"$$python" -m pytest tests_functional --thorough --every-point
	"$$python" -m pytest tests_functional/test_media.py --thorough --profile full
	tests_functional/prepare arm64 >/dev/null
	"$$python" -m pytest tests_functional/test_arm64.py --thorough --architecture arm64

unit:
	@$(PREPARE)
	"$$python" -m pytest -n auto --durations=10 bareon/tests $(ARGS)

functional:
	@$(PREPARE)
	"$$python" -m pytest tests_functional $(ARGS)

crash-matrix:
	@$(PREPARE)
	"$$python" -m pytest tests_functional/test_crash_matrix.py --every-point $(ARGS)

ramdisk:
	@$(PREPARE)
	"$$python" -m ramdisk $(ARGS)

package:
	@$(PREPARE)
	"$$python" -m building.package $(ARGS)

man:
	@$(PREPARE)
	"$$python" -m sphinx -W -b man doc/source doc/build/man

docs:
	@$(PREPARE)
	"$$python" -m sphinx -W -b html doc/source doc/build/html

lint:
	@$(PREPARE)
	"$$python" -m ruff check .
	"$$python" -m ruff format --check .
	"$$python" -m mypy
	"$$python" -m mypy --strict building ramdisk tests_functional
	"$$(dirname "$$python")/lint-imports"

clean:
	rm -rf build dist doc/build bareon.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
