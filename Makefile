# Everything that a checkout can do. Set-up happens by itself, once, in .venv.
#
#   make run     the daemon on port 8080, store in var/   (ARGS="--port 9000" adds flags)
#   make test    every test                               (ARGS="tests/store -k name" picks)
#   make lint    ruff, mypy, import contracts
#   make prove   the long proofs, with figures (docs/proof.md)
#   make bench   dtfc beside nginx, openssl and others (ARGS="--quick --rows 1,4")
#   make simulate a flash crowd of NODES nodes: the scaling table (NODES=10,100,1000)
#   make cluster whole nodes in a test tube, from a fresh seed on (ARGS="--seeds 1000 --jobs 2")
#   make profile where a node's time goes        (ARGS=4: under the load of row 4)
#   make docs    the site in site/, and what is made from the code: settings, metrics, parts of man/
#   make dist    a wheel and a source distribution, in dist/
#   make deb     a Debian package, in dist/; asks PyPI for the libraries that are in it
#   make clean   take all of it away, but not the store

PYTHON ?= python3
VENV ?= .venv
NODES ?= 10,100,1000
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: run test lint prove bench simulate cluster profile docs dist deb clean
.DEFAULT_GOAL := run

run: $(VENV)/for-run
	@root=; \
	if [ "$$(id -u)" = 0 ]; then \
	    root=--allow-root; \
	    echo "You are root: passing --allow-root. A node needs no root (docs/running.md)."; \
	fi; \
	echo "The store is in $(CURDIR)/var; Ctrl-C stops."; \
	exec $(BIN)/twistd --nodaemon --pidfile= dtfc --basedir var $$root $(ARGS)

test: $(VENV)/for-test
	$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/for-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

prove: $(VENV)/for-test
	DTFC_PROVE_MIB=1024 $(BIN)/python -m pytest -q -s -m "prove or not prove" tests/live $(ARGS)
	DTFC_HYPOTHESIS=big $(BIN)/python -m pytest -q --ignore=tests/live --ignore=tests/process $(ARGS)
	$(BIN)/python -m prove

bench: $(VENV)/for-test
	$(BIN)/python -m bench $(ARGS)

simulate: $(VENV)/for-test
	$(BIN)/python -m simulate crowd --nodes $(NODES) $(ARGS)

cluster: $(VENV)/for-test
	$(BIN)/python -m simulate cluster --seed $$(date +%s) --seeds 100 $(ARGS)

profile: $(VENV)/for-test
	$(BIN)/python -m bench.profile $(ARGS)

docs: $(VENV)/for-docs
	$(BIN)/python -m dtfc.settings --toml > etc/dtfc.toml
	$(BIN)/python -m dtfc.settings --update docs/running.md
	$(BIN)/python -m dtfc.web docs/metrics.md etc/prometheus-alerts.yml
	$(BIN)/python -m dtfc.cli.manual man
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

dist: $(VENV)/for-test
	$(BIN)/python setup.py --quiet sdist bdist_wheel

deb: dist
	rm -rf build/deb && mkdir -p build/deb
	tar -C build/deb -xzf "$$(ls -t dist/dtfc-*.tar.gz | head -1)"
	cd build/deb/dtfc-* && dpkg-buildpackage --unsigned-source --unsigned-changes --build=binary
	cp build/deb/dtfc_*.deb dist/

clean:
	rm -rf $(VENV) build dist site dtfc.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	rm -rf .import_linter_cache twisted/plugins/dropin.cache
	find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	@sh .ci/make-venv "$(PYTHON)" "$(VENV)"

$(VENV)/for-run: setup.cfg setup.py dtfc/__init__.py | $(VENV)/pyvenv.cfg
	@echo "Installing dtfc and what it needs into $(VENV) ..."
	@$(PIP) --editable .
	@touch $@

$(VENV)/for-test: $(VENV)/for-run
	@echo "Installing what tests and checks need into $(VENV) ..."
	@$(PIP) --editable '.[test,lint]'
	@touch $@

$(VENV)/for-docs: $(VENV)/for-run
	@echo "Installing what the documentation needs into $(VENV) ..."
	@$(PIP) --editable '.[docs]'
	@touch $@
