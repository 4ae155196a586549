# yodad: build, run, test. `make help` lists the targets.
#
# Everything is built into build/. The lists of sources are the folders' contents: a new .c file in core/, daemon/, api/ or tools/
# is part of the next build. Tests: every tests/unit/test_*.c is one program.

SHELL := /bin/bash
.DEFAULT_GOAL := all

# V=1 shows the commands.
Q := $(if $(V),,@)
say = @$(if $(V),true,echo '  $(1) $(2)')

CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif

# VARIANT: release (default), asan (address + undefined behaviour + leaks), ubsan (undefined behaviour and suspicious arithmetic, at
# nearly full speed), tsan, fuzz (clang: address + undefined behaviour, for libFuzzer). Each has its own object tree.
VARIANT ?= release
B := build
O := $(B)/obj/$(VARIANT)

PKGS := $(if $(filter bare,$(VARIANT)),,vips lcms2 libmicrohttpd jansson libuv sqlite3 hiredis libcurl zlib)
PKG_CFLAGS := $(patsubst -I%,-isystem %,$(filter -I%,$(shell pkg-config --cflags $(PKGS) 2>/dev/null)))
LIBS_CORE := -ldnnl -lvl -lm -lpthread $(shell pkg-config --libs vips lcms2 2>/dev/null)
LIBS_DAEMON := $(shell pkg-config --libs libmicrohttpd jansson libuv sqlite3 hiredis libcurl zlib 2>/dev/null)

VERSION := $(shell cat VERSION 2>/dev/null || echo 0.0.0)
WARN := -Wall -Wextra -Wshadow -Wconversion -Wvla -Wstrict-prototypes -Werror
CPPFLAGS := -I. -D_GNU_SOURCE -DYD_VERSION='"$(VERSION)"' $(PKG_CFLAGS)
CFLAGS := -std=c11 -g -fopenmp -fno-math-errno $(WARN) -fno-omit-frame-pointer -MMD -MP

ifeq ($(VARIANT),release)
CFLAGS += -O3 -fstack-protector-strong -fstack-clash-protection -fcf-protection -fPIE
CPPFLAGS += -D_FORTIFY_SOURCE=2
LDFLAGS := -pie -Wl,-z,relro,-z,now -fopenmp
else ifeq ($(VARIANT),asan)
CFLAGS += -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -Wno-conversion # see ubsan
CPPFLAGS += -DYD_SANITIZE
LDFLAGS := -fsanitize=address,undefined -fopenmp
else ifeq ($(VARIANT),ubsan)
UBSAN := -fsanitize=undefined,float-cast-overflow,float-divide-by-zero -fno-sanitize-recover=all
CFLAGS += -O2 $(UBSAN) -Wno-conversion # the checks stand between values and their ranges: what fits would be called a loss
CPPFLAGS += -DYD_SANITIZE
LDFLAGS := $(UBSAN) -fopenmp
else ifeq ($(VARIANT),tsan)
CFLAGS += -O1 -fsanitize=thread
CPPFLAGS += -DYD_SANITIZE
LDFLAGS := -fsanitize=thread -fopenmp
else ifeq ($(VARIANT),fuzz)
# libFuzzer is clang's. Without OpenMP: one input at a time, and no runtime of another compiler.
CC := $(if $(findstring clang,$(CC)),$(CC),clang-14)
FUZZ_SAN := -fsanitize=address,undefined -fno-sanitize-recover=all
CFLAGS := $(filter-out -fopenmp -Werror,$(CFLAGS)) -O1 $(FUZZ_SAN) -fsanitize=fuzzer-no-link -w
CPPFLAGS += -DYD_SANITIZE -Itests/fuzz/one_thread
LDFLAGS := $(FUZZ_SAN) -fsanitize=fuzzer
else ifeq ($(VARIANT),bare)
# For a machine that has a compiler, nvcc and a GPU, and no other library: see docs/gpu.md. Whatever compiler it is, its new warnings stop nothing.
# Its dependency files name the system's headers too, for tests/gpu/bare-check.
CFLAGS := $(filter-out -Werror -MMD,$(CFLAGS)) -MD -O2 -fPIE
LDFLAGS := -pie -fopenmp
LIBS_CORE := -lm -lpthread -ldl
else
$(error VARIANT is release, asan, ubsan, tsan, fuzz or bare, not '$(VARIANT)')
endif

CORE_SRC := $(wildcard core/*.c core/attention/*.c core/cpu/*.c core/train/*.c)
DAEMON_SRC := $(filter-out daemon/main.c,$(wildcard daemon/*.c api/*.c))
ORACLE_SRC := $(wildcard tests/oracle/*.c)
YODA_SRC := $(wildcard tools/*.c)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
BENCH_SRC := $(wildcard tests/bench/bench_*.c)
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)

obj = $(patsubst %.c,$(O)/%.o,$(1))
CORE_OBJ := $(call obj,$(CORE_SRC))
DAEMON_OBJ := $(call obj,$(DAEMON_SRC))
ORACLE_OBJ := $(call obj,$(ORACLE_SRC))
UNIT_BIN := $(patsubst tests/unit/%.c,$(O)/unit/%,$(UNIT_SRC))
BENCH_BIN := $(patsubst tests/bench/%.c,$(O)/bench/%,$(BENCH_SRC))
ifeq ($(VARIANT),bare)
NEEDS_LIBRARIES := $(wildcard core/image*.c core/attention_net*.c core/resnet*.c core/agf*.c core/inception*.c core/perceptual*.c core/cpu/*.c) \
    core/fingerprint.c core/pooled_query.c core/attention/sift.c core/attention/vlfeat.c core/train/data_folder.c
CORE_SRC := $(filter-out $(NEEDS_LIBRARIES),$(CORE_SRC)) tests/gpu/bare/without.c
CORE_OBJ := $(call obj,$(CORE_SRC))
YODA_SRC := tests/gpu/bare/main.c tools/args.c tools/cli.c tools/cmd_train.c tools/progress.c
endif
FUZZ_BIN := $(patsubst tests/fuzz/%.c,$(O)/fuzz/%,$(FUZZ_SRC))

ifeq ($(VARIANT),release)
BIN := $(B)
else
BIN := $(B)/$(VARIANT)
endif

# The CUDA plug-in, where nvcc and cuDNN's headers are; `make NVCC=` builds without. gpu/*.c knows no CUDA and is tested with any compiler
# against a driver that is none (libgpu.a); the plug-in has its own copy of it and of the little it needs of core.
ifeq ($(origin NVCC),undefined)
NVCC := $(firstword $(shell command -v nvcc 2>/dev/null) $(wildcard /usr/local/cuda/bin/nvcc))
endif
CUDA_HOME := $(if $(NVCC),$(abspath $(dir $(realpath $(NVCC)))..))
CUDNN_H := $(if $(NVCC),$(firstword $(wildcard $(addsuffix /cudnn.h,$(CUDA_HOME)/include $(CUDA_HOME)/targets/x86_64-linux/include /usr/include /usr/include/x86_64-linux-gnu))))
# Where the system has no cuDNN or cublasLt, those that PyTorch has brought along: folders with include/ and lib/.
ifneq ($(NVCC),)
ifeq ($(and $(CUDNN_H),$(wildcard $(CUDA_HOME)/lib64/libcublasLt.so)),)
PY_NVIDIA := $(shell python3 -c 'import nvidia; print(*nvidia.__path__)' 2>/dev/null)
PY_CUDNN := $(if $(CUDNN_H),,$(firstword $(wildcard $(addsuffix /cudnn,$(PY_NVIDIA)))))
PY_CUBLAS := $(if $(wildcard $(CUDA_HOME)/lib64/libcublasLt.so),,$(firstword $(wildcard $(addsuffix /cu1*,$(PY_NVIDIA)) $(addsuffix /cublas,$(PY_NVIDIA)))))
CUDNN_H := $(or $(CUDNN_H),$(wildcard $(PY_CUDNN)/include/cudnn.h))
endif
endif
PY_CUDA := $(PY_CUDNN) $(PY_CUBLAS)
CUDA_LINK := -L$(CUDA_HOME)/lib64 $(addprefix -Xlinker ,$(addprefix -rpath=,$(addsuffix /lib,$(PY_CUDA)))) \
    $(if $(PY_CUDNN),$(addprefix -Xlinker ,$(firstword $(wildcard $(PY_CUDNN)/lib/libcudnn.so*))),-lcudnn) \
    $(if $(PY_CUBLAS),$(addprefix -Xlinker ,$(firstword $(wildcard $(PY_CUBLAS)/lib/libcublasLt.so*))),-lcublasLt)
GPU_SRC := $(wildcard gpu/*.c)
GPU_CU := $(wildcard gpu/*.cu)
FAKE_GPU_SRC := $(filter-out %/plugin.c,$(wildcard tests/fake_gpu/*.c))
GPU_CORE_SRC := core/err.c core/mem.c core/graph.c core/file.c core/sha256.c core/sha256_x86.c
G := $(B)/obj/cuda
GPU_OBJ := $(patsubst %,$(G)/%.o,$(GPU_CU) $(GPU_SRC) $(GPU_CORE_SRC))
GENCODE := -gencode arch=compute_80,code=sm_80 -gencode arch=compute_90,code=[sm_90,compute_90]
NVCCFLAGS := -std=c++17 -O2 -I. $(addprefix -isystem ,$(wildcard $(addsuffix /include,$(PY_CUDA)))) $(GENCODE) --Werror all-warnings -Xcompiler -fPIC,-fvisibility=hidden,-Wall,-Wextra,-fstack-protector-strong
NVCCFLAGS := $(if $(filter bare,$(VARIANT)),$(filter-out --Werror all-warnings,$(NVCCFLAGS)),$(NVCCFLAGS))
CUDA_PLUGIN := $(if $(CUDNN_H),$(if $(filter release,$(VARIANT)),$(B)/yoda-cuda.so))

.PHONY: all cuda-note
all: $(if $(wildcard daemon/main.c),$(BIN)/yodad) $(if $(YODA_SRC),$(BIN)/yoda) $(or $(CUDA_PLUGIN),cuda-note) ## build yodad, yoda and, where nvcc is, the CUDA plug-in

cuda-note:
	$(if $(filter release,$(VARIANT)),$(call say,--,without CUDA: $(if $(NVCC),cudnn.h,nvcc) was not found),@true)

$(G)/%.cu.o: %.cu
	@mkdir -p $(@D)
	$(call say,NVCC,$<)
	$(Q)$(NVCC) $(NVCCFLAGS) -MMD -MP -MF $(@:.o=.d) -c $< -o $@

$(G)/%.c.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$< (plug-in))
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fPIE -fopenmp,$(CFLAGS)) -fPIC -fvisibility=hidden -c $< -o $@

$(B)/yoda-cuda.so: $(GPU_OBJ)
	$(call say,LD,$@)
	$(Q)$(NVCC) -shared -cudart static -o $@ $^ $(CUDA_LINK) -Xlinker '-rpath,$$ORIGIN:$(CUDA_HOME)/lib64,-z,relro,-z,now,--no-undefined'

$(O)/libgpu.a: $(call obj,$(GPU_SRC)) $(call obj,$(FAKE_GPU_SRC))
	@rm -f $@
	$(Q)ar rcs $@ $^

# The same as a plug-in, with devices that are none: what a program with a GPU does, on a machine without one.
LOOPS_OBJ := $(patsubst %.c,$(O)/pic/%.o,$(GPU_SRC) $(GPU_CORE_SRC) $(FAKE_GPU_SRC) tests/fake_gpu/plugin.c)
$(O)/pic/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$< (a plug-in of loops))
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fPIE -fopenmp,$(CFLAGS)) -fPIC -fvisibility=hidden -c $< -o $@
$(O)/yoda-cuda-loops.so: $(LOOPS_OBJ)
	$(call say,LD,$@)
	$(Q)$(CC) $(filter-out -pie -fopenmp,$(LDFLAGS)) -shared -o $@ $^ -lm

$(O)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

$(O)/libcore.a: $(CORE_OBJ)
	@rm -f $@
	$(Q)ar rcs $@ $^

$(BIN)/yodad: $(O)/daemon/main.o $(DAEMON_OBJ) $(O)/libcore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_DAEMON) $(LIBS_CORE)

# make MUTANT=NAME: a yodad that breaks one promise (daemon/mutant.h). Only the files that know of mutants are built anew.
ifdef MUTANT
MUTANT_OBJ := $(patsubst %.c,$(O)/mutants/$(MUTANT)/%.o,$(shell grep -lw YD_BROKEN $(DAEMON_SRC)))
MUTATED := $(patsubst $(O)/mutants/$(MUTANT)/%,$(O)/%,$(MUTANT_OBJ))

all: $(BIN)/mutants/$(MUTANT)/yodad

$(O)/mutants/$(MUTANT)/%.o: %.c
	@mkdir -p $(@D)
	$(call say,CC,$< ($(MUTANT)))
	$(Q)$(CC) $(CPPFLAGS) -DYD_MUTANT=YD_MUTANT_$(MUTANT) $(CFLAGS) -c $< -o $@

$(BIN)/mutants/$(MUTANT)/yodad: $(O)/daemon/main.o $(filter-out $(MUTATED),$(DAEMON_OBJ)) $(MUTANT_OBJ) $(O)/libcore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_DAEMON) $(LIBS_CORE)
endif

$(BIN)/yoda: $(call obj,$(YODA_SRC)) $(O)/libcore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_CORE)

$(O)/unit/%: $(O)/tests/unit/%.o $(ORACLE_OBJ) $(DAEMON_OBJ) $(O)/libcore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_DAEMON) $(LIBS_CORE)

$(O)/unit/test_service_canvas: | $(O)/yoda-cuda-loops.so

$(O)/unit/test_gpu_%: $(O)/tests/unit/test_gpu_%.o $(ORACLE_OBJ) $(DAEMON_OBJ) $(O)/libgpu.a $(O)/libcore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_DAEMON) $(LIBS_CORE)

# Tests of what belongs to the command alone.
$(O)/unit/test_plot: $(call obj,tools/plot.c tools/plot_svg.c tools/plot_raster.c tools/font.c)

$(O)/bench/%: $(O)/tests/bench/%.o $(O)/tests/bench/common.o $(ORACLE_OBJ) $(DAEMON_OBJ) $(O)/libcore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_DAEMON) $(LIBS_CORE)

# Of VARIANT=fuzz only: main is libFuzzer's.
$(O)/fuzz/%: $(O)/tests/fuzz/%.o $(DAEMON_OBJ) $(O)/libcore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_DAEMON) $(LIBS_CORE)

# What a CUDA device is checked and measured by (tests/gpu/run): VARIANT=bare wherever it runs, so that it needs none of our packages. The
# programs run on the CPU too, where they are of another variant.
GPU_TEST_OBJ := $(call obj,$(addprefix tests/oracle/,oracle.c forward.c backward.c one_op.c device.c) tests/bench/common.c)
CHECK_OBJ := $(call obj,$(wildcard tests/gpu/check*.c) tests/gpu/saved.c)
$(BIN)/gpu-check: $(CHECK_OBJ) $(call obj,tests/gpu/open_device.c) $(GPU_TEST_OBJ) $(O)/libcore.a
$(BIN)/gpu-check-fake: $(CHECK_OBJ) $(call obj,tests/gpu/open_fake.c) $(GPU_TEST_OBJ) $(O)/libgpu.a $(O)/libcore.a
$(BIN)/gpu-bench: $(call obj,tests/gpu/bench.c tests/gpu/limits.c) $(GPU_TEST_OBJ) $(O)/libcore.a
$(BIN)/gpu-check $(BIN)/gpu-check-fake $(BIN)/gpu-bench:
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_CORE)

$(BIN)/gpu-peak: tests/gpu/peak.cu
	@mkdir -p $(@D)
	$(call say,NVCC,$@)
	$(Q)$(NVCC) $(NVCCFLAGS) -cudart static -o $@ $< $(filter-out -lcudnn %libcudnn%,$(CUDA_LINK)) -Xlinker -rpath=$(CUDA_HOME)/lib64

# What cuDNN makes of our convolutions where there is no device, with something in place of the driver's library beside it.
NO_DEVICE_OBJ := $(patsubst %,$(G)/%.o,gpu/attention.cu gpu/conv.cu gpu/driver.cu tests/gpu/no_device.cu tests/gpu/products.cu)
$(BIN)/gpu-plans: $(call obj,tests/gpu/plans.c) $(NO_DEVICE_OBJ) $(O)/libgpu.a $(O)/libcore.a | $(BIN)/no-driver/libcuda.so.1
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(NVCC) -cudart static -o $@ $^ $(CUDA_LINK) -Xlinker -rpath=$(CUDA_HOME)/lib64 $(patsubst %,-Xcompiler %,$(filter -f%,$(LDFLAGS))) $(LIBS_CORE)

$(BIN)/no-driver/libcuda.so.1: tests/gpu/no_driver.c
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(filter-out -fPIE -fopenmp,$(CFLAGS)) -fPIC -shared -o $@ $<

.PHONY: gpu-check gpu-check-fake gpu-bench gpu-plans cuda-missing cuda-libraries
gpu-plans: $(BIN)/gpu-plans
gpu-check-fake: $(BIN)/gpu-check-fake
gpu-check: $(BIN)/gpu-check $(if $(filter bare,$(VARIANT)),$(BIN)/yoda $(B)/yoda-cuda.so)
gpu-bench: $(BIN)/gpu-bench $(if $(filter bare,$(VARIANT)),$(BIN)/gpu-peak $(B)/yoda-cuda.so)
cuda-missing: # why the plug-in cannot be built here; nothing when it can
	@$(if $(NVCC),$(if $(CUDNN_H),:,echo 'cudnn.h was not found'),echo 'nvcc was not found')
cuda-libraries: # folders of libraries that the system does not know of
	@echo $(wildcard $(addsuffix /lib,$(PY_CUDA)) $(CUDA_HOME)/lib64)

# The page and the API description are part of the program.
$(O)/api/assets.o: $(wildcard api/openapi.json api/web/*)

.PHONY: unit-bins bench-bins fuzz-bins
unit-bins: $(UNIT_BIN)
bench-bins: $(BENCH_BIN)
fuzz-bins: $(FUZZ_BIN)

# Where `make install` puts things; packagers set DESTDIR.
PREFIX ?= /usr
DESTDIR ?=

.PHONY: settings-page check-gpu check-gpu-sanitized check-gpu-daemon bench-gpu run test test-web cluster-test image-test page-image unit asan ubsan tsan torture conformance analyze bench install clean help format
run: ## install what is missing, build, start yodad with the shipped model
	@deploy/install-deps build
	@$(MAKE) --no-print-directory all
	@deploy/run-local

test: ## install what is missing, run every test; ends with "N passed, N failed, N skipped"
	@deploy/install-deps test
	@tests/run

unit: ## run the unit tests of this VARIANT only
	@tests/run unit

test-web: ## run the tests of the page in headless Chromium
	@deploy/install-deps test
	@tests/run web

asan: ## run every test with AddressSanitizer, UBSan and leak check
	@deploy/install-deps test
	@tests/run asan

ubsan: ## run every test with UBSan alone, optimised as a release nearly is
	@deploy/install-deps test
	@tests/run ubsan

tsan: ## run what has threads, and the server under all API tests, with ThreadSanitizer
	@deploy/install-deps test
	@tests/run tsan

fuzz: ## throw damaged bytes at every parser, FUZZ_SECONDS (600) each, two at a time; a finding fails (tests/fuzz/run)
	@deploy/install-deps test
	@tests/fuzz/run

torture: ## kill, poison and starve the server, in minutes
	@deploy/install-deps test
	@tests/run torture

cluster-test: all ## replicas behind HAProxy and nginx, updated and killed under load: nothing may fail or be lost
	@deploy/install-deps test
	@tests/run cluster

image-test: ## the Dockerfile's stages without an engine, and yodad in the result as its user with a read-only root (root, debootstrap, 10 minutes, 10 GB)
	@deploy/install-deps test
	@tests/cluster/image

conformance: all ## requests made from api/openapi.json against a real server: no 5xx, no answer it does not have (PyPI, into build/)
	@tests/api/conformance

analyze: ## look at every source with clang's static analyzer and gcc -fanalyzer; any finding fails
	@deploy/install-deps analyze
	@tests/run analyze

check-gpu: ## check the CUDA backend on a device, from a bare checkout: operators, networks, sampling, training, each promise (5 minutes)
	@tests/gpu/run check

check-gpu-sanitized: ## the same under compute-sanitizer, in part: bounds, then races
	@tests/gpu/run sanitize

check-gpu-daemon: ## the daemon's tests of jobs, events, batches and models on a device; needs all packages (deploy/install-deps test)
	@tests/gpu/daemon

bench-gpu: ## measure it there: step times, share of the matrix peak, captured against eager, against PyTorch where that is (8 minutes)
	@tests/gpu/run bench

bench: all bench-bins ## print the performance ratios (quiet machine, a few minutes)
	@tests/bench/run

# Peers for comparison only, in an environment of their own: gigabytes, fetched once, never by `make test` or at run time.
# WORDS chooses cases, as `make bench-peers WORDS="paper-f32 compact"`.
.PHONY: bench-peers
$(B)/peers/venv/.complete: tests/bench/peers/requirements.txt
	$(call say,VENV,$(@D))
	$(Q)rm -rf $(@D) && python3 -m venv $(@D) && $(@D)/bin/pip install -q -r $<
	$(Q)touch $@

$(O)/bench/peers/%: $(O)/tests/bench/peers/%.o $(O)/tests/bench/common.o $(O)/libcore.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LIBS_CORE)

bench-peers: $(O)/bench/peers/ours $(B)/peers/venv/.complete ## compare with PyTorch, ONNX Runtime and OpenVINO (g++, 8 GB in build/)
	@$(B)/peers/venv/bin/python tests/bench/peers/compare.py $(WORDS)

install: all ## install into $(DESTDIR)$(PREFIX): programs, models, systemd units
	install -D -t $(DESTDIR)$(PREFIX)/bin $(BIN)/yodad $(BIN)/yoda
	$(if $(CUDA_PLUGIN),install -D -t $(DESTDIR)$(PREFIX)/lib/yodad $(CUDA_PLUGIN))
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/yodad/models $(wildcard models/*.safetensors models/*.json)
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system systemd/yodad.service systemd/yodad.socket
	install -D -m 644 systemd/yodad.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/yodad.conf
	install -D -m 644 systemd/yodad.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/yodad.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/yodad/systemd $(wildcard systemd/drop-ins/*.conf)

IMAGES := astronaut coffee
.PHONY: images
.PHONY: paper-ablation
paper-ablation: all ## the paper's ablations at small scale: six trainings of six minutes of one core and their evaluation (tools/paper-ablation)
	@tools/paper-ablation all

images: all ## make the README's pictures from docs/images with the shipped model
	@for i in $(IMAGES); do \
	    $(BIN)/yoda sheet docs/images/$$i.png docs/images/$$i-sheet.png && \
	    $(BIN)/yoda attention docs/images/$$i.png docs/images/$$i-attention.png --scale 1 --method edge || exit 1; \
	done
	@mkdir -p $(B)/photo && cp docs/images/astronaut.png $(B)/photo/
	@for m in compact photo; do \
	    $(BIN)/yoda eval --hr $(B)/photo --degrade mild --degrade-seed 4 -m yoda-$$m-4x --sheet docs/images/photo-$$m.png --quiet || exit 1; \
	done
	@$(BIN)/yoda upscale docs/images/chelsea.png docs/images/chelsea-4x.jpg
	@$(BIN)/yoda upscale docs/images/coffee.png $(B)/coffee-2x.png --scale 2 --report docs/images/coffee-invented.jpg

page-image: all ## make the README's picture of the page, docs/images/page.webp
	@deploy/install-deps test
	@tests/web/run picture

settings-page: ## write docs/operations/settings.md from the program's list of settings
	@tests/lint/settings_page.py

format: ## clang-format every source
	clang-format -i $$(git ls-files '*.c' '*.h')

clean: ## remove build/
	rm -rf $(B)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F'\t' '{printf "  make %-12s %s\n", $$1, $$2}'

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)
.SECONDARY:
