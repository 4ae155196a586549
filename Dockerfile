# yodad in a container: compiled in one stage, only programs, models and shared libraries in the other.
#
#   docker build -t yodad . && docker run --rm -p 127.0.0.1:8080:8080 yodad
#   hardened:  docker run --rm --read-only --cap-drop=ALL --security-opt no-new-privileges -v yodad:/var/lib/yodad -p ... yodad
#
# Inside a container every address is "beyond loopback", so the server is told to listen there without keys; whoever publishes the
# port decides who reaches it.

FROM debian:12-slim AS build
WORKDIR /src
# The packages change seldom: their layer is made before the sources arrive.
COPY deploy/install-deps deploy/install-deps
RUN deploy/install-deps build
COPY . .
RUN make -j"$(nproc)" all && make install DESTDIR=/stage PREFIX=/usr

FROM debian:12-slim
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
ENTRYPOINT ["/usr/bin/yodad"]
