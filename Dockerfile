# An image that serves one run, see docs/serving.md:
#
#     docker build --build-arg run_dir=saved_models/RUN --tag classifier .
#     docker run --publish 8000:8000 --env TL_KERAS_SERVE_TOKEN classifier
FROM python:3.11-slim

WORKDIR /srv
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY tl_keras tl_keras
RUN pip install --no-cache-dir --constraint requirements.lock ".[serve,litert]" onnxruntime && rm -r tl_keras

ARG run_dir
RUN test -n "$run_dir" || { echo "Say which run: --build-arg run_dir=saved_models/RUN" >&2; exit 1; }
COPY $run_dir model

RUN useradd --create-home --uid 10001 serve
USER serve
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=2m \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/v2/health/live', timeout=4)"]
ENTRYPOINT ["tl-keras", "serve", "model", "--host", "0.0.0.0", "--access-log"]
