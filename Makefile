# SPDX-License-Identifier: Apache-2.0
# Everything for a machine without ROS. `make demo` and `make test` set up what they need.

# The first that is 3.11 or 3.12: the ROS wheels exist for these.
PYTHON ?= $(or $(shell for python in python3 python3.12 python3.11; do \
  if $$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; \
  then echo $$python; break; fi; done),python3)
VENV := .venv
BIN := $(VENV)/bin
# docs.txt only where the site is built: nobody needs it to run or to test.
REQUIREMENTS := $(filter-out requirements/docs.txt,$(wildcard requirements/*.txt))
PIP_ARGUMENTS := $(foreach file,$(filter-out requirements/constraints.txt,$(REQUIREMENTS)),-r $(file))
INTERFACES := CMakeLists.txt package.xml scripts/build_interfaces.sh \
  $(wildcard msg/* srv/* action/* scripts/nodes/*) \
  $(shell find compat_interfaces -type f) \
  $(shell find config launch rviz -type d 2>/dev/null)  # new files are linked into install/

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup demo test lint bench docs picture baseline-env lock clean

help: ## this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.linked install/.built ## environment in .venv, interfaces built into install/

demo: setup ## the main thing: the simulated robot does a task, over ROS 2; VIEW=1: in the browser too
	$(BIN)/fourdgen demo $(if $(VIEW),--view)

test: setup ## all tests, over real DDS
	ROS_PYTHON_CHECK_FIELDS=1 ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST MUJOCO_GL=egl \
	  $(BIN)/pytest

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: setup $(VENV)/.docs ## the site, in build/site; reads the reference from running nodes
	MUJOCO_GL=egl $(BIN)/python scripts/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo build/site/index.html

bench: setup ## closed-loop success and latency of the bundled model; CPU and frames of the cameras
	mkdir -p runs
	$(BIN)/fourdgen rollout --task PlaceAppleFromBowlIntoBin --generator tiny --seeds 0:10 \
	  --json runs/bench.json
	$(BIN)/python scripts/bench_cameras.py --json runs/bench_cameras.json

baseline-env: ## environment of the Diffusion Policy baseline in .venv-dp (8 GB)
	"$(PYTHON)" -m venv .venv-dp
	.venv-dp/bin/pip install --disable-pip-version-check -r requirements/baselines/diffusion_policy.txt

picture: setup ## docs/images: imagined beside real, of a run with the bundled model
	$(BIN)/fourdgen demo --out build/picture
	$(BIN)/python scripts/make_picture.py build/picture
	@ls -lh docs/images/demo.*

lock: setup $(VENV)/.docs ## write requirements/constraints.txt from the environment
	$(BIN)/python scripts/lock_requirements.py

clean: ## remove what setup made
	rm -rf $(VENV) build install log

$(VENV)/.created:
	@echo '[1/4] checking the system'
	@bash scripts/check_system.sh "$(PYTHON)"
	@echo '[2/4] making $(VENV)'
	@"$(PYTHON)" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.installed: $(REQUIREMENTS) scripts/rewrite_wheel_paths.py | $(VENV)/.created
	@echo '[3/4] installing the Python packages (2 GB on disk; some minutes)'
	@$(BIN)/pip install --disable-pip-version-check -c requirements/constraints.txt $(PIP_ARGUMENTS)
	@$(BIN)/python scripts/rewrite_wheel_paths.py
	@touch $@

$(VENV)/.docs: requirements/docs.txt requirements/constraints.txt $(VENV)/.installed
	@$(BIN)/pip install --disable-pip-version-check -c requirements/constraints.txt \
	  -r requirements/docs.txt
	@touch $@

$(VENV)/.linked: scripts/link_venv.py scripts/venv_environment.py $(VENV)/.installed
	@$(BIN)/python scripts/link_venv.py
	@touch $@

install/.built: $(INTERFACES) $(VENV)/.installed
	@echo '[4/4] building the interfaces (some minutes)'
	@bash scripts/build_interfaces.sh
	@touch $@
