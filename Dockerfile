# yodad in a container: compiled in one stage, only programs, models and shared libraries in the other.
#
#   docker build -t yodad . && docker run --rm -p 127.0.0.1:8080:8080 yodad                                        (target cpu)
#   docker build -t yodad:cuda --target cuda . && docker run --rm --gpus all -p 127.0.0.1:8080:8080 yodad:cuda     (NVIDIA GPUs)
#   hardened:  docker run --rm --read-only --cap-drop=ALL --security-opt no-new-privileges --shm-size=1g -v yodad:/var/lib/yodad -p ... yodad
#
# Inside a container every address is "beyond loopback", so the server is told to listen there without keys; whoever publishes the
# port decides who reaches it. Bases are named by their content; deploy/build-root makes the same stages without a container engine.

FROM debian:12-slim@sha256:60eac759739651111db372c07be67863818726f754804b8707c90979bda511df AS build
WORKDIR /src
# The packages change seldom: their layer is made before the sources arrive.
COPY deploy/install-deps deploy/install-deps
RUN deploy/install-deps build
COPY . .
RUN make -j"$(nproc)" NVCC= all && make install NVCC= DESTDIR=/stage PREFIX=/usr

FROM debian:12-slim@sha256:60eac759739651111db372c07be67863818726f754804b8707c90979bda511df AS cpu
LABEL org.opencontainers.image.title="yodad" \
      org.opencontainers.image.description="Diffusion super-resolution service" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.base.name="docker.io/library/debian:12-slim" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY deploy/install-deps /usr/share/yodad/install-deps
RUN /usr/share/yodad/install-deps run && rm -rf /var/lib/apt/lists/* /var/cache/apt/* \
    && install -d -o 65532 -g 65532 -m 0750 /var/lib/yodad
COPY --from=build /stage/usr/ /usr/

ENV YODAD_LISTEN=0.0.0.0:8080 \
    YODAD_INSECURE_NO_AUTH=true \
    YODAD_MODEL_DIR=/usr/share/yodad/models \
    YODAD_STATE_DIR=/var/lib/yodad \
    OMP_WAIT_POLICY=passive
USER 65532:65532
VOLUME /var/lib/yodad
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=4s --start-period=60s --retries=3 CMD ["/usr/bin/yodad", "--probe"]
ENTRYPOINT ["/usr/bin/yodad"]

# CUDA's compiler, to build the plug-in with the C library that the program has. Its version is the runtime's below or an earlier one.
FROM debian:12-slim@sha256:60eac759739651111db372c07be67863818726f754804b8707c90979bda511df AS plugin
WORKDIR /src
COPY deploy/install-deps deploy/cuda-toolkit deploy/cuda-toolkit.txt deploy/
RUN deploy/install-deps cuda && deploy/cuda-toolkit /opt/cuda
COPY . .
RUN make NVCC=/opt/cuda/bin/nvcc build/yoda-cuda.so && install -D -t /stage/usr/lib/yodad build/yoda-cuda.so

# What the plug-in loads of CUDA and cuDNN, from NVIDIA's image for running, each library once and under the name that it is loaded by.
FROM nvidia/cuda:13.0.3-cudnn-runtime-ubuntu24.04@sha256:14f6d08d1cd4a96effbfe3101d0b56326f552c199d05e4979ee0bd616df5811b AS nvidia
RUN mkdir -p /stage/usr/lib/yodad && find -L /usr/local/cuda-13.0/targets /usr/lib/x86_64-linux-gnu -type f \
    '(' -name 'libcublas*.so.13' -o -name 'libcudnn*.so.9' -o -name 'libnvrtc.so.13' -o -name 'libnvrtc-builtins.so.13.[0-9]' ')' \
    -exec cp -Ln -t /stage/usr/lib/yodad '{}' + && test -e /stage/usr/lib/yodad/libcudnn.so.9 && test -e /stage/usr/lib/yodad/libcublasLt.so.13

FROM cpu AS cuda
LABEL org.opencontainers.image.description="Diffusion super-resolution service, with CUDA"
COPY --from=nvidia /stage/usr/ /usr/
COPY --from=plugin /stage/usr/ /usr/
# The first is for what cuDNN loads by itself; the others are asked for by NVIDIA's container runtime, which brings the driver's libraries.
ENV LD_LIBRARY_PATH=/usr/lib/yodad \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    YODAD_DEVICE=auto

# Without a target's name.
FROM cpu
