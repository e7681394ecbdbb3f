# Two commands: `make demo` and `make test`. Everything else is a part of one of them.

SHELL := /bin/sh
.DEFAULT_GOAL := help
export MKUPGRADE_CACHE ?= $(CURDIR)/.cache
# Without kept bytecode every pytest process rewrites the assertions of all tests anew: 7 s each.
unexport PYTHONDONTWRITEBYTECODE

PY := .venv/bin/python
VM_JOBS ?= 2
# One more than processors: some tests wait for something.
FAST_JOBS ?= $(shell echo $$(($$(nproc) + 1)))
CRASH_SEEDS ?= 20000
CRASH_SEEDS_INSTANCES ?= 2000
CRASH_JOBS ?= 2

# make demo CHANNEL=disk; make demo KERNELS=stock; make demo FROM=bzImage TO=bzImage
CHANNEL ?=
KERNELS ?=
FROM ?=
TO ?=
REHEARSE = $(if $(CHANNEL),--channel $(CHANNEL)) $(if $(filter stock,$(KERNELS)),--stock) \
	$(if $(FROM),--from $(FROM)) $(if $(TO),--to $(TO))

# Properties are tried with all of their examples here, with a fifth of them in the fast suite.
test crash-test: export HYPOTHESIS_PROFILE ?= full

.PHONY: help
help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

.PHONY: demo
demo: ## Linux 7.2 -> 7.3 in a VM under a living TCP connection (CHANNEL=disk, KERNELS=stock)
	@scripts/bootstrap $(if $(filter stock,$(KERNELS)),vm-stock,vm)
	@$(PY) -m orchestrator.cli rehearse plans/live-update.yaml $(REHEARSE)

.PHONY: test
test: lint oldest crash power-cuts ## Everything: fast suite, real kernels in the VM, cuts of power, types, style, import arrows
	@scripts/bootstrap checks
	$(PY) -m pytest -n $(VM_JOBS) --dist worksteal --durations=25 --durations-min=10 -m "not power"

.PHONY: fast-test
fast-test: environment ## The fast suite, under a minute
	$(PY) -m pytest -n $(FAST_JOBS) --dist worksteal --ignore=tests/vm -m "not vm and not slow"

.PHONY: crash-test
crash-test: environment ## 500 real kills, full disks, damaged journals, whole lives of the command (a part of `make test`)
	$(PY) -m pytest -n auto --dist worksteal -m slow

.PHONY: crash
crash: environment ## Crash schedules of the engine, known and fresh ones, and the bugs put in (CRASH_SEEDS=20000)
	$(PY) -m tests.crash --seeds $(CRASH_SEEDS) --fresh $(CRASH_SEEDS) --jobs $(CRASH_JOBS)
	$(PY) -m tests.crash --seeds $(CRASH_SEEDS_INSTANCES) --journal instances --jobs $(CRASH_JOBS)
	$(PY) -m tests.crash --mutants --jobs $(CRASH_JOBS)

.PHONY: vm-test
vm-test: guest-kernels ## The VM suite: real kernels in QEMU
	$(PY) -m pytest -n $(VM_JOBS) --dist worksteal -m "vm and not power"

.PHONY: power-cuts
power-cuts: guest-kernels ## 30 cuts of a guest's power in an update, and what would be seen if they cost anything
	$(PY) -m pytest -s -m power

.PHONY: smoke
smoke: guest-kernels ## One guest, one boot, under three minutes
	$(PY) -m pytest -m vm tests/vm/test_boot.py

.PHONY: lint
lint: environment ## ruff, mypy --strict, import-linter
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	PYTHONPATH=. .venv/bin/lint-imports

.PHONY: oldest
oldest: environment ## The model and the planner with the oldest libraries that are allowed
	@scripts/oldest

.PHONY: debian-package
debian-package: environment ## Build the Debian package in a Debian 13 tree, and try it there (root, mmdebstrap)
	CI=true $(PY) -m pytest -s tests/debian

.PHONY: kernels
kernels: ## Build two kernels with KHO from Debian's sources (15 minutes on two cores, kept)
	@scripts/bootstrap dev kernels
	@$(PY) -m orchestrator.rehearsal.kernel_build

# Kernels with KHO, built only if none are at hand.
.PHONY: guest-kernels
guest-kernels:
	@scripts/bootstrap dev vm-default vm-stock loaders checks
	@$(PY) -m orchestrator.rehearsal.kernels || $(MAKE) --no-print-directory kernels

.PHONY: environment
environment:
	@scripts/bootstrap dev

.PHONY: clean
clean: ## Remove the environment, caches and everything built
	rm -rf .venv .cache build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name '*.egg-info' -prune -exec rm -rf {} +
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -f orchestrator/system/_native*.so orchestrator/system/_native.c \
		orchestrator/system/_libfdt*.so orchestrator/system/_libfdt.c
