# yodad in a container: compiled in one stage, only programs, models and shared libraries in the other.
#
#   docker build -t yodad . && docker run --rm -p 127.0.0.1:8080:8080 yodad
#   hardened:  docker run --rm --read-only --cap-drop=ALL --security-opt no-new-privileges --shm-size=1g -v yodad:/var/lib/yodad -p ... yodad
#
# Inside a container every address is "beyond loopback", so the server is told to listen there without keys; whoever publishes the
# port decides who reaches it. The base is named by its content; deploy/build-root makes the same stages without a container engine.

FROM debian:12-slim@sha256:60eac759739651111db372c07be67863818726f754804b8707c90979bda511df AS build
WORKDIR /src
# The packages change seldom: their layer is made before the sources arrive.
COPY deploy/install-deps deploy/install-deps
RUN deploy/install-deps build
COPY . .
RUN make -j"$(nproc)" all && make install DESTDIR=/stage PREFIX=/usr

FROM debian:12-slim@sha256:60eac759739651111db372c07be67863818726f754804b8707c90979bda511df AS cpu
LABEL org.opencontainers.image.title="yodad" \
      org.opencontainers.image.description="Diffusion super-resolution service" \
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
