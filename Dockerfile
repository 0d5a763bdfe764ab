# The playground for others, on one machine: docs/operations.md, "Standing one up".
#
#     docker build --tag open-model-playground .
#     docker run --read-only --tmpfs /tmp --volume playground:/data --publish 7860:7860 open-model-playground
#
# The app runs as a user without rights and writes nothing outside /data and /tmp.
FROM python:3.11.13-slim-bookworm

# A compiler for the kernels: without one, ONNX Runtime computes everything.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /app
COPY pre-requirements.txt requirements.txt ./
RUN python -m pip install --no-cache-dir --disable-pip-version-check -r pre-requirements.txt \
    && python -m pip install --no-cache-dir --disable-pip-version-check -r requirements.txt

COPY README.md LICENSE CHANGELOG.md SECURITY.md app.py spaces.yaml ./
COPY docs docs
COPY playground playground
RUN python -m compileall -q app.py playground

RUN useradd --uid 10001 --home-dir /data --no-create-home playground \
    && mkdir /data \
    && chown playground /data

ENV HOME=/data PLAYGROUND_HOME=/data HF_HOME=/data/huggingface HOST=0.0.0.0 PORT=7860
VOLUME /data
EXPOSE 7860
USER playground

HEALTHCHECK --interval=30s --timeout=6s --start-period=60s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen('http://127.0.0.1:' + os.environ['PORT'] + '/healthz', timeout=5)"]
CMD ["python", "app.py"]
