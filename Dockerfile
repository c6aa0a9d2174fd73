# Builds hookonce, and an image that has little else in it.
#
#   docker build -t hookonce .
#   docker run --init --stop-timeout 45 -p 8080:8080 -v hookonce-data:/hookonce/hookonce-data hookonce
#
# A hookonce.toml goes to /hookonce/hookonce.toml; docs/OPERATIONS.md has the rest.

FROM rust:1.95-bookworm AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin hookonce

FROM debian:bookworm-slim
# ca-certificates: handlers at https:// URLs. util-linux: `setpriv`, so that a command ends with hookonce.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates util-linux \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --home-dir /hookonce hookonce \
    && mkdir -p /hookonce/hookonce-data && chown -R hookonce: /hookonce
COPY --from=build /build/target/release/hookonce /usr/local/bin/hookonce
USER 10001
WORKDIR /hookonce
# The SQLite file and the development secrets. Without a volume they go with the container.
VOLUME /hookonce/hookonce-data
# The public address. The admin address stays on the container's own loopback unless it is configured.
EXPOSE 8080
# Alive, not ready: restarting us does not bring a store back.
HEALTHCHECK --interval=15s --timeout=5s --start-period=5s CMD ["hookonce", "health", "--alive"]
ENTRYPOINT ["hookonce"]
CMD ["serve"]
