# Two images: `docker build .` can do everything; `docker build --target serve .` is without TensorFlow, predicts and learns
# by quick retrains.
FROM python:3.12-slim AS packages
WORKDIR /build
RUN pip install --no-cache-dir uv
COPY requirements.txt pyproject.toml ./
RUN uv pip install --no-cache --no-build --prefix /install --constraint requirements.txt --requirement pyproject.toml

FROM packages AS packages-full
RUN uv pip install --no-cache --no-build --prefix /install --requirement requirements.txt

FROM packages AS package
COPY README.md LICENSE ./
COPY src ./src
COPY models/shipped ./models/shipped
RUN uv pip install --no-cache --no-deps --prefix /package .

FROM python:3.12-slim AS base
WORKDIR /app
# Not root, and by its number, as Kubernetes wants it. Records, pictures and models belong to this user; put them on
# volumes if they are to outlive the container.
RUN useradd --uid 10001 --create-home app && mkdir dataset models temp_uploads && chown app:app dataset models temp_uploads
USER 10001:10001
ENV HOST=0.0.0.0 PORT=8000 PYTHONUNBUFFERED=1
VOLUME ["/app/dataset", "/app/models"]
EXPOSE 8000
HEALTHCHECK --start-period=20s --timeout=5s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health')"]
CMD ["shoe-classifier", "serve"]

FROM base AS serve
COPY --from=packages /install /usr/local
COPY --from=package /package /usr/local

FROM base AS full
COPY --from=packages-full /install /usr/local
COPY --from=package /package /usr/local
COPY models/pretrained.h5 ./models/
