# Development and demonstration. `make help` lists what there is.
SHELL := bash
COMMA := ,
.SHELLFLAGS := -euo pipefail -c
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
KIND_UP := ../shared/kind/up
# pytest keeps the modules that it rewrites, which halves the start of its next process.
unexport PYTHONDONTWRITEBYTECODE
# Tests wait more than they compute.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
# Two of the fast tests for each processor: one waits while the other computes. Each worker imports all.
FAST_WORKERS ?= $(shell echo $$((2 * $$(getconf _NPROCESSORS_ONLN))))
# What a test frees serves the next one. Returned to the kernel, it would be cleared page by page again.
KEEP_MEMORY := MALLOC_TRIM_THRESHOLD_=1000000000 MALLOC_MMAP_THRESHOLD_=33554432
# pip install of locked requirements, with a line for each 20 packages: $(call locked,FILES,TIME)
define locked
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
	@total=$$(cat $(1) | grep -c '=='); \
	echo "installing $$total packages into .venv, $(2)"; \
	PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off --no-compile --require-hashes $(addprefix -r ,$(1)) \
	  | awk -v total=$$total '/^Collecting/ && ++n % 20 == 0 { print "  " n " of " total } /^Installing/ { print "  unpacking" } { fflush() }'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
endef
# The API server's binaries for the tests that need one; set KUBEBUILDER_ASSETS or have the script.
ASSETS = if [ -z "$${KUBEBUILDER_ASSETS:-}" ] && [ -x $(KIND_UP) ]; then eval "$$($(KIND_UP) --bin)"; fi
# The stories of Helm need it; its first build takes 2 minutes.
HELM = if command -v go > /dev/null; then $(BIN)/python -m scripts.go_tools; fi

# What the two parts of the tests have in common: they need no browser, packages, helm or root.
ANYWHERE := not peers and not browser and not netns and not charts
FAST := $(ANYWHERE) and not slow and not apiserver
SLOW := $(ANYWHERE) and (slow or apiserver or hypothesis)

.DEFAULT_GOAL := help
PART ?= 1
STORIES ?= e2e
.PHONY: help install demo demo-clean test test-slow test-all stress acto fields e2e e2e-long conformance peers keycloak browser screenshots netns e2e-keycloak bench bench-quick bench-compare bench-operator soak loss hostile check format crds manifests golden images lock charts-test release gateway reference docs

help: ## This list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

install: .venv/installed ## Everything for development, in .venv

.venv/installed: requirements/dev.txt pyproject.toml
	$(call locked,requirements/dev.txt,which takes one to three minutes)
	@touch .venv/runtime $@

# The demo needs half of the packages.
.venv/runtime: requirements/runtime.txt requirements/build.txt pyproject.toml
	$(call locked,requirements/runtime.txt requirements/build.txt,which takes up to a minute)
	@touch $@

demo: .venv/runtime ## samples/demo.yaml at work: on kind if Docker runs, else locally (LOCAL=1: locally)
	@$(BIN)/python -m scripts.demo $(if $(LOCAL),--local)

demo-clean: .venv/runtime ## Remove what the demo has left
	@$(BIN)/python -m scripts.demo --clean

test: install ## All fast tests: they need no cluster, npm or API server (80 seconds)
	@env -u KUBEBUILDER_ASSETS $(KEEP_MEMORY) $(BIN)/pytest -n $(FAST_WORKERS) --dist worksteal -m "$(FAST)" $(ARGS)

test-slow: install ## The tests that make test leaves out: slow ones, those at an API server, all examples
	@$(ASSETS); EXAMPLES=all $(BIN)/pytest -n $(WORKERS) --dist loadfile -m "$(SLOW)" $(ARGS)

test-all: test test-slow ## All tests that need no cluster: make test and make test-slow

stress: install ## Hostile peers for 5 minutes; differential, concurrency and fuzz tests in full; make acto (PART=3: a third)
	@$(BIN)/python -m bench.hostile.soak --untimed --seconds $$((300 / $(PART)))
	@$(ASSETS); EXAMPLES=all STRESS=$(PART) $(BIN)/pytest -n 2 --dist loadfile tests/differential tests/stress tests/acto tests/operator_faults $(ARGS)

acto: install ## 1500 good and bad changes of an MCPProxy, every field, at a real API server (3 minutes)
	@$(ASSETS); STRESS=1 $(BIN)/pytest -s tests/acto $(ARGS)

e2e: install ## User stories on a kind cluster of their own (KEEP=1 keeps it; STORIES names files)
	@$(HELM)
	@$(BIN)/pytest $(STORIES) $(ARGS)

gateway: install ## Stories of exposure through Traefik, built from Go modules (6 minutes at first), with streams of ten minutes
	@E2E_LONG=1 $(BIN)/pytest -s e2e/test_exposure.py $(ARGS)

fields: install ## Each field of the contract ignored, and each rule of authentication broken, once: some test fails (25 minutes)
	@STRESS=1 $(BIN)/pytest -n 2 tests/fields tests/conformance/test_verifier_mutants.py $(ARGS)

e2e-keycloak: install ## Sign-in with Keycloak on a kind cluster (needs Maven, npm, chromium and chromedriver)
	@$(BIN)/pytest -s e2e/test_keycloak.py $(ARGS)

e2e-long: install ## The same with the long ones: ten idle minutes, five under Argo CD, versions one apart
	@$(HELM)
	@E2E_LONG=1 $(BIN)/pytest -s e2e $(ARGS)

conformance: install ## The official suite, directly and through the proxy (needs npm, ../shared)
	@$(BIN)/python -m scripts.conformance $(ARGS)

peers: install ## The proxy between servers and clients of other makers (needs npm, git)
	@$(BIN)/python -c "from scripts import npm, pip_peers; npm.install(); pip_peers.install()"
	@$(BIN)/pytest tests/peers -m "peers and not keycloak" $(ARGS)

keycloak: install ## Sign-in with Keycloak on this machine (needs Java 17 and `python -m scripts.keycloak install`)
	@$(BIN)/pytest tests/peers -m keycloak $(ARGS)

browser: install ## Clients and pages in a headless Chromium (needs chromium, chromedriver and npm)
	@$(BIN)/python -c "from scripts import npm; npm.install()"
	@$(BIN)/pytest tests/browser -m browser $(ARGS)

screenshots: install ## Generate docs/images (needs chromium and chromedriver)
	@$(BIN)/python -m tests.browser.screenshots

charts-test: install ## The charts by helm at an API server, and the OLM bundle (needs go, which builds helm in 2 minutes)
	@$(BIN)/python -m scripts.go_tools
	@$(ASSETS); $(BIN)/pytest -n 2 --dist loadfile tests/charts -m charts $(ARGS)

netns: install ## Pods of IPv6 and dual-stack clusters in network namespaces (needs root, ip)
	@$(BIN)/pytest tests/network_namespaces -m netns $(ARGS)

bench: install ## Measure next to nginx and other proxies; writes docs/performance.md (12 minutes)
	@$(BIN)/python -m bench.run $(ARGS)
	@$(BIN)/python -m scripts.sizing

bench-quick: install ## The same in short, printed only; fails on wrong replies, not on figures
	@$(BIN)/python -m bench.run --quick $(ARGS)

bench-compare: install ## This build and another, BEFORE=path/to/mcpproxy, in one run: no median below 0.97
	@$(BIN)/python -m bench.compare --before $(BEFORE) $(ARGS)

bench-operator: install ## The operator with SIZES MCPProxies (100,1000) next to a script; prints a table (20 minutes; needs ../shared)
	@$(BIN)/python -m bench.operator --sizes $(or $(SIZES),100$(COMMA)1000) --write docs/scale.md $(ARGS)

soak: install ## Clients that come and go for DURATION seconds (600) while backends fail at random: memory is flat, no wrong reply
	@$(BIN)/python -m bench.soak --seconds $(or $(DURATION),600) $(ARGS)

loss: install ## Three instances under calls of 128 clients for 10 minutes: undisturbed, then one killed with SIGKILL every 20 s
	@STRESS=1 $(BIN)/pytest -s tests/stress/test_loss.py $(ARGS)

hostile: install ## A proxy among hostile clients and backends for DURATION seconds (300), beside well-behaved ones
	@$(BIN)/python -m bench.hostile.soak --seconds $(or $(DURATION),300) $(ARGS)

check: install ## Style, types, import layers, generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m scripts.house
	@$(BIN)/mcpproxy crd | diff -u crds/mcpproxies.mcpproxy.dev.yaml - || { echo "run: make crds"; exit 1; }
	@$(BIN)/python -m scripts.sizing --check || { echo "run: make reference"; exit 1; }
	@$(BIN)/python -m scripts.limits --check || { echo "run: make reference"; exit 1; }
	@$(BIN)/python -m scripts.reasons --check || { echo "run: make reference"; exit 1; }
	@$(BIN)/python -m scripts.cli_reference --check || { echo "run: make reference"; exit 1; }
	@$(BIN)/python -m scripts.clients_page --check || { echo "run: make reference"; exit 1; }
	@$(BIN)/python -m scripts.metrics_reference --check || { echo "run: make reference"; exit 1; }
	@$(BIN)/python -m scripts.diagrams --check || { echo "run: make reference"; exit 1; }
	@$(BIN)/python -m scripts.llms --check || { echo "run: make reference"; exit 1; }
	@$(BIN)/python -m scripts.reference --check || { echo "run: make reference"; exit 1; }
	@$(ASSETS); $(BIN)/python -m scripts.manifests --check || { echo "run: make manifests"; exit 1; }
	@$(BIN)/python -m scripts.charts --check || { echo "run: make manifests"; exit 1; }
	@$(BIN)/python -m scripts.bundle --check || { echo "run: make manifests"; exit 1; }

format: install ## Put the style right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

crds: install ## Generate the CustomResourceDefinition
	@$(BIN)/mcpproxy crd > crds/mcpproxies.mcpproxy.dev.yaml

manifests: crds ## Generate the roles, manifests/install.yaml, the Helm charts and the OLM bundle
	@$(ASSETS); $(BIN)/python -m scripts.manifests
	@$(BIN)/python -m scripts.charts
	@$(BIN)/python -m scripts.bundle

reference: install ## Generate docs/reference.md, docs/cli.md, and parts of clients.md, security.md and operations.md
	@$(BIN)/python -m scripts.cli_reference
	@$(BIN)/python -m scripts.clients_page
	@$(BIN)/python -m scripts.metrics_reference
	@$(BIN)/python -m scripts.reference
	@$(BIN)/python -m scripts.limits
	@$(BIN)/python -m scripts.reasons
	@$(BIN)/python -m scripts.sizing
	@$(BIN)/python -m scripts.diagrams
	@$(BIN)/python -m scripts.llms

docs: install ## Build docs/ as a site in dist/site; links must resolve (SOURCE_URL is the address of the repository)
	@$(BIN)/python -m scripts.site

golden: install ## Write the expected manifests of the tests anew
	@UPDATE_GOLDEN=1 $(BIN)/pytest tests/desired tests/packaging/test_argocd.py -q -k "golden or objects"

images: install ## Build the images (BASE_IMAGE chooses their base, IMAGE their names, TARGETS such as runtime-node-uv)
	@$(BIN)/python -m scripts.images $(TARGETS)

release: install ## Build the release of TAG into dist/ (IMAGE names the images; see docs/releasing.md)
	@$(BIN)/python -m scripts.release $(or $(TAG),$(error TAG is not set, such as TAG=v0.1.0)) $(ARGS)

lock: install ## Lock the newest releases of all dependencies
	@scripts/lock
