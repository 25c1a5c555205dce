#!/bin/bash
# gunicorn listens at once; its workers answer when they have loaded the application
set -e
echo "Starting application..."
exec python -m gunicorn 'app.main:create_app()' \
    --worker-class uvicorn.workers.UvicornWorker \
    --bind 0.0.0.0:443 \
    --workers "${WEB_CONCURRENCY:-2}" --threads "${WEB_THREADS:-4}" --timeout "${WEB_TIMEOUT:-60}" \
    --graceful-timeout 30 --keep-alive 2 --backlog 2048 \
    --log-level info --access-logfile - --error-logfile - \
    --keyfile /app/certs/server.key --certfile /app/certs/server.crt
