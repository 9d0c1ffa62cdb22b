# syntax=docker/dockerfile:1
# One image a process, and one of the operator's commands:
#
#   docker build --target gateway -t switchboard/gateway:0.1.0 .      # or auth-svc, user-svc, message-svc, switchboard
#
# No shell, no package manager, not root; nothing is written, so the root may be read-only. Keys and passwords come at
# run time as files: none is in a layer, and .dockerignore keeps local ones out of the build.

ARG RUST_VERSION=1.95.0

FROM rust:${RUST_VERSION}-bookworm AS build
ARG RUST_VERSION
# Before rust-toolchain.toml, which would have clippy and rustfmt fetched.
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION}
WORKDIR /src
COPY . .
# The caches outlive the layer, so binaries are copied out of them. They are not stripped: a backtrace names its lines.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --workspace --bins \
    && for process in gateway auth-svc user-svc message-svc switchboard; do \
         install -D -m 0555 "target/release/$process" "/out/$process" || exit 1; \
       done

# glibc, libgcc and nothing else, as user 65532.
FROM gcr.io/distroless/cc-debian12:nonroot AS base
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="Switchboard" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# By number, which Kubernetes can prove to be nobody's root.
USER 65532:65532
WORKDIR /
# Keys are mounted at /var/lib/switchboard/keys. An address of its own shows a container to nobody, so it listens on all.
ENV SWITCHBOARD_PROFILE=production \
    SWITCHBOARD_DATA=/var/lib/switchboard \
    SWITCHBOARD_GATEWAY__LISTEN=0.0.0.0 \
    SWITCHBOARD_AUTH__LISTEN=0.0.0.0 \
    SWITCHBOARD_USER__LISTEN=0.0.0.0 \
    SWITCHBOARD_MESSAGE__LISTEN=0.0.0.0

FROM base AS gateway
COPY --from=build /out/gateway /usr/local/bin/gateway
EXPOSE 3000 3009
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s CMD ["/usr/local/bin/gateway", "--probe", "ready"]
ENTRYPOINT ["/usr/local/bin/gateway"]

FROM base AS auth-svc
COPY --from=build /out/auth-svc /usr/local/bin/auth-svc
EXPOSE 50001 3002
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s CMD ["/usr/local/bin/auth-svc", "--probe", "ready"]
ENTRYPOINT ["/usr/local/bin/auth-svc"]

FROM base AS user-svc
COPY --from=build /out/user-svc /usr/local/bin/user-svc
EXPOSE 50003 3003
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s CMD ["/usr/local/bin/user-svc", "--probe", "ready"]
ENTRYPOINT ["/usr/local/bin/user-svc"]

FROM base AS message-svc
COPY --from=build /out/message-svc /usr/local/bin/message-svc
EXPOSE 50002 3001
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s CMD ["/usr/local/bin/message-svc", "--probe", "ready"]
ENTRYPOINT ["/usr/local/bin/message-svc"]

# The operator's commands: `keys init`, `config show`. It serves nothing unless it is told to (`up`).
FROM base AS switchboard
COPY --from=build /out/switchboard /usr/local/bin/switchboard
HEALTHCHECK NONE
ENTRYPOINT ["/usr/local/bin/switchboard"]
CMD ["--help"]
