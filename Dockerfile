# syntax=docker/dockerfile:1
# The operator's image: docker build --tag lakebase-operator:0.1.0 .
# Pin the base in your build with --build-arg BASE=python:3.11-slim@sha256:…
ARG BASE=python:3.11-slim

FROM ${BASE} AS dependencies
COPY requirements/runtime.txt /tmp/
# Exactly the files that were locked: a package whose content has changed is refused.
RUN python -m venv --without-pip /opt/venv \
 && pip --python /opt/venv/bin/python install --no-cache-dir --no-compile --require-hashes --only-binary :all: \
    --requirement /tmp/runtime.txt

FROM ${BASE}
LABEL org.opencontainers.image.title="lakebase-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=dependencies /opt/venv /opt/venv
COPY LICENSE /usr/share/doc/lakebase-operator/
COPY operator/lakebase_operator /opt/lakebase-operator/lakebase_operator
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/opt/lakebase-operator \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that the kubelet can see that it is not root.
USER 65532:65532
EXPOSE 8080 9090
ENTRYPOINT ["python", "-m", "lakebase_operator"]
CMD ["run"]
