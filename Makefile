# undertone: what there is to do. `make` alone tells.
.DEFAULT_GOAL := help
.PHONY: help demo build test budget test-home-assistant screenshots test-recognisers fuzz soak soak-short lint bench train gap cross same-corpora report test-training timeline test-peers runtime clean deb test-deb test-systemd test-arm64 test-container addon

CARGO ?= cargo
ARCH ?= $(shell dpkg --print-architecture 2>/dev/null)
TARGET := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)
CORPORA ?= ../shared/corpora
DATA ?= data
VENV := .venv-training
PEERS := .venv-peers
RECOGNISERS := .venv-recognisers

# ONNX Runtime shall not report to its makers, from Python either (src/model/library.rs).
export ORT_DISABLE_TELEMETRY := 1

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: build ## watch a recording of a room turn into MQTT events
	@$(TARGET)/release/undertone demo

build: runtime ## the release binary, into target/release
	@scripts/setup.sh build
	UNDERTONE_COMMIT=$$(scripts/commit.sh) $(CARGO) build --release --locked

runtime: ## ONNX Runtime, into .runtime
	@scripts/setup.sh runtime

test: ## every test that needs neither root nor PyTorch; sets up what they need
	@scripts/setup.sh test
	$(CARGO) test --locked

HOURS ?= 8
SPEED ?= 15
soak: runtime ## HOURS=8 of a room at SPEED=15 times real speed, with brokers, recognisers, devices failing; a week in two hours: HOURS=168 SPEED=100
	@scripts/setup.sh test
	UNDERTONE_SOAK_HOURS=$(HOURS) UNDERTONE_SOAK_SPEED=$(SPEED) $(CARGO) test --locked --release --test soak --test microphone_faults -- --ignored --nocapture

soak-short: runtime ## a quarter of an hour of it, in a minute; `make test` does so too
	@scripts/setup.sh test
	$(CARGO) test --locked --test soak -- --nocapture

test-home-assistant: ## undertone in a real Home Assistant (installed once, 800 MB, outside of the project)
	@venv=$$(tests/home_assistant/setup.sh) && $(CARGO) build --locked \
	&& "$$venv/bin/python" tests/home_assistant/run.py $(TARGET)/debug/undertone

screenshots: ## the pictures of deploy/home-assistant, taken from a real Home Assistant
	@venv=$$(tests/home_assistant/setup.sh) && scripts/setup.sh screenshots && $(CARGO) build --locked \
	&& "$$venv/bin/python" tests/home_assistant/run.py $(TARGET)/debug/undertone --screenshots deploy/home-assistant

test-recognisers: $(RECOGNISERS)/ready ## the hooks against a real recogniser behind the protocols' own libraries
	@scripts/setup.sh recognisers
	UNDERTONE_TEST_PYTHON=$(abspath $(RECOGNISERS))/bin/python \
	UNDERTONE_TEST_RECORDING=/usr/share/pocketsphinx/test/data/goforward.raw \
		$(CARGO) test --locked --test asr_recognisers -- --ignored

MINUTES ?= 10
fuzz: ## MINUTES=10 of libFuzzer at what a Wyoming server may send
	fuzz/run.sh $(MINUTES)

lint: ## formatting and clippy, as CI demands them
	@scripts/setup.sh build
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

bench: runtime $(VENV)/light ## what skipping saves, as ratios within one run, and CPU seconds for an hour of sound, by stage
	@scripts/setup.sh build
	$(VENV)/bin/python models/training/variants.py models/undertone.onnx $(DATA)/variants
	UNDERTONE_VARIANTS=$(abspath $(DATA)/variants) $(CARGO) bench --locked

budget: build ## memory, processor time and time to the first decision of the release binary, at real speed
	scripts/budget.py $(TARGET)/release/undertone

SEED ?= 1
# Who and what models are chosen by (data.py): not heard with what they learn from.
APART := emodb-10,ravdess-05,ravdess-20,nemo-MP0,FirdawsM/Whitescape,raulmabe/focus
# Settings of train.py. The released model has learnt from the validation speakers too; TRAIN= holds them back, to choose by them: the twin.
TRAIN ?= --everything
EVERYTHING := $(filter --everything,$(TRAIN))
TWIN := $(DATA)/twin-$(SEED)
RUN := $(if $(EVERYTHING),$(DATA)/run-$(SEED),$(TWIN))
train: same-corpora build $(VENV)/full ## the model, from the corpora in CORPORA (resumes where it was stopped); SEED=2: another one, beside it; TRAIN= its twin
	test -e $(DATA)/train/index.csv || { \
	  $(TARGET)/release/undertone corpus mix --manifest $(CORPORA)/manifest.csv --out $(DATA)/mix --segments 8 --windows 6 --dry --apart $(APART) && \
	  $(TARGET)/release/undertone corpus features --manifest $(DATA)/mix/manifest.csv --out $(DATA)/train; }
	test -e $(DATA)/train/teacher-clip.npy || $(VENV)/bin/python models/training/teacher.py $(DATA)/mix $(DATA)/train
	test -e $(DATA)/train/teacher-class.npy || $(VENV)/bin/python models/training/opinion.py $(DATA)/train
	for copy in 1 2; do test -e $(DATA)/voices-$$copy/index.csv || { \
	  $(VENV)/bin/python models/training/convert.py $(CORPORA)/manifest.csv $(DATA)/converted-$$copy --copy $$copy && \
	  $(TARGET)/release/undertone corpus mix --manifest $(DATA)/converted-$$copy/manifest.csv --out $(DATA)/mix-$$copy --segments 2 --windows 1 --background 0.02 --seed 1$$copy --apart $(APART) && \
	  $(TARGET)/release/undertone corpus features --manifest $(DATA)/mix-$$copy/manifest.csv --out $(DATA)/voices-$$copy; } || exit 1; done
	$(VENV)/bin/python models/training/train.py $(DATA)/train --out $(RUN) --seed $(SEED) $(TRAIN)
	$(VENV)/bin/python models/training/look.py $(DATA)/train --out $(RUN)/picture.pt --seed $$(($(SEED) - 1)) $(EVERYTHING)
	$(VENV)/bin/python models/training/emotions.py $(RUN)/last.pt $(DATA)/train $(DATA)/voices-1 $(DATA)/voices-2 --picture $(RUN)/picture.pt --out $(RUN)/final.pt --seed $(SEED) $(EVERYTHING)
ifneq (,$(and $(EVERYTHING),$(filter 1,$(SEED))))
	$(VENV)/bin/python models/training/export.py $(RUN)/final.pt models/undertone.onnx
	$(VENV)/bin/python models/training/golden_parity.py $(RUN)/final.pt models/undertone.onnx
	$(MAKE) report
	$(TARGET)/release/undertone evaluate --manifest $(CORPORA)/manifest.csv
else
	$(VENV)/bin/python models/training/export.py $(RUN)/final.pt $(RUN)/undertone.onnx --release $(if $(EVERYTHING),seed,twin)-$(SEED)
endif

SEEDS ?= 1 2 3
EPOCHS ?= --shallow-epochs 12 --deep-epochs 5 --finish-epochs 2
WEIGHTS ?=
IMITATE ?=
AGAIN ?=
GAP = $(DATA)/gap
GATES = $(if $(HOLD),held-)gates
LONGER = $(if $(HOLD),held-)longer
# The gated and the ungated runs that are compared.
COMPARED = $(if $(AGAIN),$(GATES) $(LONGER),$(if $(IMITATE),imitates,gated) ungated)
# The first part knows no gates, so both have it in common. With AGAIN all of an ungated run is what they have in common.
gap: same-corpora build $(VENV)/full ## what gates cost in accuracy: short runs with and without them, after the corpora and lessons of `make train`; SEEDS="1 2 3"; EPOCHS= as released; WEIGHTS=models/undertone.onnx: with its weights to begin with; IMITATE="--imitate 2 --shut --budget 0.5": gated runs that imitate the ungated one; AGAIN="--imitate 2 --shut --drop-gated --budget 0.5": gates for the finished ungated network; HOLD=--hold: which stays as it is
	test -e $(DATA)/test/index.csv || $(TARGET)/release/undertone corpus features --manifest $(CORPORA)/manifest.csv --split test_seen,test_unseen --out $(DATA)/test
	for seed in $(SEEDS); do own="$(DATA)/train --seed $$seed --validate 100 $(EPOCHS)"; first=$(GAP)/$(if $(AGAIN),ungated,gated)-$$seed; ungated=$(GAP)/ungated-$$seed; longer=$(GAP)/$(LONGER)-$$seed; gates=$(GAP)/$(GATES)-$$seed; \
	  { test -z "$(WEIGHTS)" -o -e $$first/last.pt || $(VENV)/bin/python models/training/recover.py $$own $(if $(AGAIN),--ungated) --out $$first --model $(WEIGHTS); } && \
	  $(VENV)/bin/python models/training/train.py $$own $(if $(AGAIN),--ungated) --out $$first && \
	  { test -n "$(AGAIN)" || $(VENV)/bin/python models/training/train.py $$own --out $$ungated --ungated --start $$first/shallow.pt; } && \
	  { test -z "$(IMITATE)" || $(VENV)/bin/python models/training/train.py $$own --out $(GAP)/imitates-$$seed --start $$first/shallow.pt --master $$ungated/last.pt $(IMITATE); } && \
	  { test -z "$(AGAIN)" || { $(VENV)/bin/python models/training/train.py $$own --out $$longer --ungated --start $$ungated/last.pt $(HOLD) && \
	    $(VENV)/bin/python models/training/train.py $$own --out $$gates --start $$ungated/last.pt --master $$longer/last.pt $(HOLD) $(AGAIN); }; } || exit 1; \
	done
	$(VENV)/bin/python models/training/gap.py $(DATA)/train $(wildcard $(DATA)/voices-1 $(DATA)/voices-2) --picture models/undertone.onnx --test $(DATA)/test --gated $(SEEDS:%=$(GAP)/$(firstword $(COMPARED))-%) --ungated $(SEEDS:%=$(GAP)/$(lastword $(COMPARED))-%)

LEFT_OUT ?= emodb ravdess nemo
CROSS = $(DATA)/cross
cross: same-corpora build $(VENV)/full ## how strangers of another corpus and language are told: short runs (EPOCHS=, SEEDS="1 2 3") without each corpus of LEFT_OUT and one with all, after the corpora and lessons of `make train`
	test -e $(DATA)/test/index.csv || $(TARGET)/release/undertone corpus features --manifest $(CORPORA)/manifest.csv --split test_seen,test_unseen --out $(DATA)/test
	for seed in $(SEEDS); do for corpus in "" $(LEFT_OUT); do \
	  $(VENV)/bin/python models/training/train.py $(DATA)/train --seed $$seed --validate 100 $(EPOCHS) --without "$$corpus" --opinion 0 --finish-opinion 0 --out $(CROSS)/$${corpus:-all}-$$seed || exit 1; done; done
	$(VENV)/bin/python models/training/cross.py $(DATA)/train $(wildcard $(DATA)/voices-1 $(DATA)/voices-2) --test $(DATA)/test --model models/undertone.onnx \
	  --runs $(foreach seed,$(SEEDS),$(LEFT_OUT:%=$(CROSS)/%-$(seed))) --whole $(SEEDS:%=$(CROSS)/all-%)

# What is in DATA was made from one manifest, of which it keeps the digest.
same-corpora:
	@mkdir -p $(DATA); own=$(DATA)/manifest.sha256; sum=$$(sha256sum < $(CORPORA)/manifest.csv) || exit 1; \
	if [ -e $$own ]; then [ "$$sum" = "$$(cat $$own)" ] || { \
	  echo "train: $(DATA) was made from another manifest than $(CORPORA)/manifest.csv; name another folder with DATA=, or move that one away" >&2; exit 1; }; \
	elif [ -e $(DATA)/mix ] || [ -e $(DATA)/train ]; then \
	  echo "train: $(DATA) does not say which manifest it was made from; if $(CORPORA)/manifest.csv, run: sha256sum < $(CORPORA)/manifest.csv > $$own" >&2; exit 1; \
	else echo "$$sum" > $$own; fi

report: build $(VENV)/full ## figures of a training run (the twin's, if there is one), as SVG into models/report; SEED=1
	$(VENV)/bin/python models/training/variants.py models/undertone.onnx $(DATA)/variants
	$(TARGET)/release/undertone evaluate --manifest $(CORPORA)/manifest.csv --ungated $(DATA)/variants/ungated.onnx --json > $(DATA)/evaluate.json
	$(VENV)/bin/python models/training/report.py $(or $(patsubst %/final.pt,%,$(wildcard $(TWIN)/final.pt)),$(RUN)) $(DATA)/train --final $(DATA)/evaluate.json

test-training: $(VENV)/full ## the tests of models/training (PyTorch, some GB)
	$(VENV)/bin/python -m pytest -q models/training

timeline: build ## how well speech is localized: two hours of a made home, from the corpora in CORPORA
	$(TARGET)/release/undertone corpus timeline --manifest $(CORPORA)/manifest.csv --recordings 2 --out $(DATA)/timeline
	$(TARGET)/release/undertone evaluate --timeline $(DATA)/timeline

test-peers: $(PEERS)/ready ## other voice detectors (Python): their tests, and their figures on $(DATA)/timeline if it is there
	$(PEERS)/bin/python -m pytest -q tests/peers
	@if [ -d $(DATA)/timeline ]; then \
		$(PEERS)/bin/python tests/peers/compare.py $(TARGET)/release/undertone $(DATA)/timeline; \
	fi

$(PEERS)/ready: tests/peers/requirements.txt tests/peers/without-dependencies.txt
	@echo "setup: installing Silero VAD and WebRTC VAD into $(PEERS)"
	scripts/setup.sh venv && python3 -m venv $(PEERS)
	$(PEERS)/bin/pip install -q --disable-pip-version-check -r tests/peers/requirements.txt
	$(PEERS)/bin/pip install -q --disable-pip-version-check --no-deps -r tests/peers/without-dependencies.txt
	touch $@

$(VENV)/light:
	@echo "setup: installing onnx and numpy into $(VENV)"
	scripts/setup.sh venv && python3 -m venv $(VENV) && $(VENV)/bin/pip install -q --disable-pip-version-check onnx numpy && touch $@

$(RECOGNISERS)/ready: tests/recognisers/requirements.txt
	@echo "setup: installing a recogniser and its protocols into $(RECOGNISERS) (70 MB)"
	scripts/setup.sh venv && python3 -m venv $(RECOGNISERS) && $(RECOGNISERS)/bin/pip install -q --disable-pip-version-check -r $< && touch $@

$(VENV)/full: models/training/requirements.txt models/training/without-dependencies.txt
	@echo "setup: installing PyTorch and what training needs into $(VENV) (some GB)"
	scripts/setup.sh venv && python3 -m venv $(VENV) && $(VENV)/bin/pip install -q --disable-pip-version-check -r $<
	$(VENV)/bin/pip install -q --disable-pip-version-check --no-deps -r models/training/without-dependencies.txt && touch $@ $(VENV)/light

deb: ## a Debian package, into dist; ARCH=arm64 or amd64 (cross-built where it must be)
	@scripts/package.sh $(ARCH)

test-deb: ## the package in a clean Debian: install, run, upgrade, purge (root); SUITE=trixie for Debian 13
	@scripts/setup.sh package-test
	@scripts/test-package.sh

test-systemd: ## the package under a real systemd: ready, watched, restarted (root)
	@scripts/setup.sh package-test
	@scripts/test-systemd.sh

test-arm64: ## the arm64 package, emulated: hears what this machine hears (root)
	@scripts/setup.sh cross-arm64
	@scripts/test-arm64.sh

test-container: ## the container's second stage on a read-only root; where podman is, built and run by it, and the add-on (root); WHOLE=1: its first stage, too; ARCH=arm64 emulates
	@scripts/setup.sh package-test
	@ARCH=$(ARCH) scripts/test-container.sh
	@if command -v podman >/dev/null; then ARCH=$(ARCH) scripts/test-engine.sh; else echo "     podman is not installed: no engine was tried"; fi

addon: deb ## the Home Assistant add-on, into dist/addon-ARCH
	@scripts/addon.sh $(ARCH)

clean: ## what was built and fetched; not the training data
	$(CARGO) clean
	rm -rf .runtime .runtime-arm64 .tools dist $(VENV) $(PEERS) $(RECOGNISERS)
