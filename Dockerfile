FROM python:3.12-slim
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --only-binary :all: --requirement requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY models ./models
RUN pip install --no-cache-dir --no-deps .
# Not root. Records, pictures and models belong to this user, and on volumes if they are to outlive the container.
RUN useradd --system --create-home app && mkdir -p dataset temp_uploads && chown -R app models dataset temp_uploads
USER app
ENV HOST=0.0.0.0 PORT=8000
VOLUME ["/app/dataset", "/app/models"]
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health')"]
CMD ["shoe-classifier", "serve"]
