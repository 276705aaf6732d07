# pg-s3-backup with PostgreSQL's client programs of several majors, so that each server gets the pg_dump that fits it.
# Without a command it is the daemon; `docker run … backup`, `list` and so on are the other subcommands.
#
#   docker build -t pg-s3-backup .          (or: podman build --format docker -t pg-s3-backup .)

FROM rust:1.95-slim-trixie AS build
WORKDIR /src
# What builds ISA-L.
# hadolint ignore=DL3008
RUN apt-get update -q -o Acquire::Languages=none \
    && apt-get install -qy --no-install-recommends autoconf automake libtool make nasm && rm -rf /var/lib/apt/lists/*
# The dependencies are a separate layer: they are built again only if Cargo.lock has changed.
COPY Cargo.toml Cargo.lock ./
COPY crates crates
RUN mkdir benches src && touch benches/codec.rs src/lib.rs && echo 'fn main() {}' >src/main.rs \
    && cargo build --release --locked && rm -r src
COPY src src
# Newer than what was built of the empty ones.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked && cp target/release/pg-s3-backup /

# Each Debian release has one major. The programs of all run on this one with the newest libpq among them, which is
# why they are taken out of their packages instead of being installed; without Debian's perl wrappers. Servers 13 and 14
# get the pg_dump of 15: that of 13 would bring OpenSSL 1.1 along, which gets no fixes any more.
FROM debian:trixie-slim AS clients
ARG PG_CLIENTS="15:bookworm 17:trixie 18:forky"
ARG LIBPQ_FROM=forky
WORKDIR /packages
RUN set -e; \
    for client in $PG_CLIENTS; do \
        suite=${client#*:}; \
        printf 'Types: deb\nURIs: http://deb.debian.org/debian\nSuites: %s\nComponents: main\nSigned-By: %s\n\n' \
            "$suite" /usr/share/keyrings/debian-archive-keyring.gpg; \
        printf 'Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: %s-security\nComponents: main\nSigned-By: %s\n\n' \
            "$suite" /usr/share/keyrings/debian-archive-keyring.gpg; \
    done >/etc/apt/sources.list.d/clients.sources; \
    rm -f /etc/apt/sources.list /etc/apt/sources.list.d/debian.sources; \
    apt-get update -q -o Acquire::Languages=none; \
    apt-get download -q "libpq5/$LIBPQ_FROM"; \
    dpkg -x libpq5_*.deb /all; \
    for client in $PG_CLIENTS; do \
        major=${client%%:*}; bin=usr/lib/postgresql/$major/bin; \
        apt-get download -q "postgresql-client-$major"; \
        dpkg -x "postgresql-client-${major}"_*.deb "/all-$major"; \
        for program in pg_dump pg_dumpall pg_restore psql; do \
            install -D -t "/all/$bin" "/all-$major/$bin/$program"; \
        done; \
        install -D -m 644 -t "/all/usr/share/doc/postgresql-client-$major" \
            "/all-$major/usr/share/doc/postgresql-client-$major/copyright"; \
    done

FROM debian:trixie-slim
# What libpq and the programs want, and the public certificate authorities. Versions are not pinned: a rebuild shall
# bring Debian's security updates.
# hadolint ignore=DL3008
RUN apt-get update -q -o Acquire::Languages=none \
    && apt-get install -qy --no-install-recommends \
        ca-certificates libgssapi-krb5-2 libldap2 liblz4-1 libreadline8t64 libssl3t64 libzstd1 zlib1g \
    && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/* \
    && echo 'backup:x:65532:65532:pg-s3-backup:/nonexistent:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'backup:x:65532:' >>/etc/group \
    && install -d -m 700 -o 65532 -g 65532 /spool
COPY --from=clients /all /
# If a program lacks a library, the build of the image fails.
RUN set -e; for program in /usr/lib/postgresql/*/bin/*; do "$program" --version; done
COPY LICENSE /usr/share/doc/pg-s3-backup/
COPY --from=build /pg-s3-backup /usr/local/bin/
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pg-s3-backup" \
      org.opencontainers.image.description="PostgreSQL backups with pg_dump in S3, verified before they get their names" \
      org.opencontainers.image.source="https://github.com/pg-s3-backup/pg-s3-backup" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}"
# Health and metrics of the daemon; the other subcommands do not use it.
ENV LISTEN=:9187
EXPOSE 9187
# Of the daemon, too: where an orchestrator acts on it, run other subcommands with --no-healthcheck.
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 CMD ["pg-s3-backup", "health"]
USER 65532:65532
# It stops pg_dump and aborts the upload in 10 s at most; give it 30.
STOPSIGNAL SIGTERM
ENTRYPOINT ["pg-s3-backup"]
CMD ["daemon"]
