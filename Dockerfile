# The server as a container: docs/packages.md says how to start it, and what has been checked.
FROM python:3.13.11-slim-bookworm@sha256:20080e807bfc404f8450b185cf0fc95d553462673598549613735f70a5b4d5d0 AS builder
WORKDIR /build
COPY packaging/requirements-build.txt requirements/server.lock ./
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements-build.txt \
    && python -m venv --without-pip /opt/reco3 \
    && /opt/build/bin/pip --python /opt/reco3/bin/python install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --require-hashes -r server.lock
COPY pyproject.toml README.md LICENSE ./
COPY agent/common/config.example.yaml agent/common/
COPY src src
RUN /opt/build/bin/python -m hatchling build -t wheel \
    && /opt/build/bin/pip --python /opt/reco3/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-index --no-deps dist/reco3-*.whl

FROM python:3.13.11-slim-bookworm@sha256:20080e807bfc404f8450b185cf0fc95d553462673598549613735f70a5b4d5d0
# The number is fixed, so that a volume keeps its owner from image to image.
RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin reco3 \
    && install --directory --owner=reco3 --group=reco3 --mode=0700 /data
COPY --from=builder /opt/reco3 /opt/reco3
ENV PATH=/opt/reco3/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    RECO3_DB_PATH=/data/reco3.db \
    RECO3_HOST=0.0.0.0 \
    PORT=5001
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 5001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/health\", timeout=4)"]
CMD ["reco3", "server"]
