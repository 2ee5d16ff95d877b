# syntax=docker/dockerfile:1

FROM python:3.11.14-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN python -m venv /opt/recallwatch
# Dependencies first: their layer is made again only when the lock changes.
COPY requirements-runtime.lock ./
RUN /opt/recallwatch/bin/pip install --require-hashes -r requirements-runtime.lock
COPY pyproject.toml README.md LICENSE ./
COPY monitor ./monitor
COPY dashboards ./dashboards
RUN /opt/recallwatch/bin/pip install --no-deps . \
    && /opt/recallwatch/bin/pip check

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/recallwatch recallwatch
COPY --from=build /opt/recallwatch /opt/recallwatch
ENV PATH=/opt/recallwatch/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /var/lib/recallwatch
USER recallwatch
EXPOSE 8501 9464
# The worker's; the dashboard has its own in docker-compose.yml.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=6 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=3)"]
ENTRYPOINT ["recallwatch"]
CMD ["run"]
