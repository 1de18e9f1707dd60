FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt
COPY pyproject.toml README.md ./
COPY src ./src
COPY models ./models
# Not root; records, pictures and models are this user's, and belong on volumes to outlive the container.
RUN useradd --system --create-home app && mkdir -p dataset temp_uploads && chown -R app models dataset temp_uploads
USER app
ENV PYTHONPATH=src HOST=0.0.0.0 PORT=8000
VOLUME ["/app/dataset", "/app/models"]
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/health')"]
CMD ["python", "-m", "shoe_classifier", "serve"]
