# Images: `runtime`, `operator`, and `demo`, which is the runtime plus the demo servers.
#
#   docker build --target runtime -t mcpproxy/runtime:dev .
#
# BASE_IMAGE is any image with Python 3.11 or newer and its venv module; name it by its digest for
# builds that can be repeated (docs/security.md, Images). The classic builder is enough. Dependencies have a layer of their own, so a change of the source rebuilds little.
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
    && /opt/build/bin/python -m compileall -q /opt/app

# --- What the runtime depends on.
FROM tools AS runtime-deps
COPY requirements/runtime.txt /src/requirements/
RUN /src/scripts/image-deps /src/requirements/runtime.txt

# --- The runtime.
FROM ${BASE_IMAGE} AS runtime
ENV PATH=/opt/mcpproxy/bin:$PATH HOME=/tmp USER=mcpproxy PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=runtime-deps /opt/mcpproxy /opt/mcpproxy
COPY --from=app /opt/app /opt/app
USER 65532:65532
ENTRYPOINT ["mcpproxy"]
CMD ["run", "--help"]

# --- The runtime and the demo servers, which samples/demo.yaml and samples/demo-backends.yaml start.
FROM runtime AS demo
WORKDIR /demo
COPY samples/servers samples/servers

# --- What the operator depends on.
FROM tools AS operator-deps
COPY requirements/controller.txt /src/requirements/
RUN /src/scripts/image-deps /src/requirements/controller.txt

# --- The operator.
FROM ${BASE_IMAGE} AS operator
ENV PATH=/opt/mcpproxy/bin:$PATH HOME=/tmp USER=mcpproxy PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --from=operator-deps /opt/mcpproxy /opt/mcpproxy
COPY --from=app /opt/app /opt/app
USER 65532:65532
ENTRYPOINT ["mcpproxy"]
CMD ["operator", "--help"]
