"""The settings: three TOML layers, checked by pydantic.

The keys, their defaults and the refusals are a contract with whoever renders the files: an unknown key, a SECRET_KEY
shorter than 32 characters or a wrong type stops the program before it answers. No environment variable is read.
"""

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.runtimes import EXAMPLE_SCRIPTS, SUPPORTED_RUNTIMES, LanguageInfo


def _read(path: str) -> dict[str, Any]:
    with Path(path).open("rb") as file:
        return tomllib.load(file)


class Settings(BaseModel):
    """What the program was told.

    Args:
        config_path: the base settings.
        override_path: a worker's own settings, which win over all others; must exist when given.
        secrets_path: SECRET_KEY and MONGODB_URL, which win over the base; skipped when it is no file.

    Raises:
        FileNotFoundError: the base or the worker's file is missing.
        IsADirectoryError: one of them is a folder, as Docker makes for a missing bind mount.
        tomllib.TOMLDecodeError: a file is no TOML.
        pydantic.ValidationError: an unknown key, a missing or short SECRET_KEY, a value of the wrong type.
    """

    model_config = ConfigDict(extra="forbid")

    def __init__(
        self,
        config_path: str = "config.toml",
        override_path: str | None = None,
        secrets_path: str = "secrets.toml",
    ) -> None:
        values = _read(config_path)
        if Path(secrets_path).is_file():
            values.update(_read(secrets_path))
        if override_path:
            values.update(_read(override_path))
        super().__init__(**values)

    # the service
    PROJECT_NAME: str = "integr8scode"
    API_V1_STR: str = "/api/v1"
    SERVICE_NAME: str = "integr8scode-backend"
    SERVICE_VERSION: str = "1.0.0"
    ENVIRONMENT: str = "production"
    HOSTNAME: str = "unknown"
    APP_URL: str = "https://integr8scode.cc"
    LOG_LEVEL: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "DEBUG"
    TESTING: bool = False
    DEVELOPMENT_MODE: bool = False

    # sessions
    SECRET_KEY: str = Field(..., min_length=32)
    ALGORITHM: str = "HS256"
    ACCESS_TOKEN_EXPIRE_MINUTES: int = 1440
    BCRYPT_ROUNDS: int = 12
    SECURE_COOKIES: bool = True
    CORS_ORIGINS: list[str] = Field(
        default_factory=lambda: [
            f"https://{host}{port}" for host in ("localhost", "127.0.0.1", "[::1]") for port in (":5001", "", ":443")
        ]
    )

    # the web server; what counts is the environment that /entrypoint.sh reads
    SERVER_HOST: str = "localhost"
    SERVER_PORT: int = 443
    SSL_KEYFILE: str = "/app/certs/server.key"
    SSL_CERTFILE: str = "/app/certs/server.crt"
    WEB_CONCURRENCY: int = 4
    WEB_THREADS: int = 1
    WEB_TIMEOUT: int = 60
    WEB_BACKLOG: int = 2048

    # Mongo; DATABASE_NAME counts only when the URL names no database
    MONGODB_URL: str = "mongodb://mongo:27017/integr8scode"
    DATABASE_NAME: str = "integr8scode_db"

    # Redis
    REDIS_HOST: str = "redis"
    REDIS_PORT: int = 6379
    REDIS_DB: int = 0
    REDIS_PASSWORD: str | None = None
    REDIS_SSL: bool = False
    REDIS_MAX_CONNECTIONS: int = 200
    REDIS_DECODE_RESPONSES: Literal[True] = True

    # the rate limiter; RATE_LIMITS and RATE_LIMIT_DEFAULT_* are accepted and change nothing
    RATE_LIMITS: str = "100/minute"
    RATE_LIMIT_ENABLED: bool = True
    RATE_LIMIT_DEFAULT_REQUESTS: int = 100
    RATE_LIMIT_DEFAULT_WINDOW: int = 60
    RATE_LIMIT_BURST_MULTIPLIER: float = 1.5
    RATE_LIMIT_REDIS_PREFIX: str = "rate_limit:"
    RATE_LIMIT_ALGORITHM: str = "sliding_window"

    # Kafka; of the consumers' keys the program reads none: groups and offsets are fixed in its source
    KAFKA_BOOTSTRAP_SERVERS: str = "kafka:29092"
    ENABLE_EVENT_STREAMING: bool = False
    EVENT_RETENTION_DAYS: int = 30
    KAFKA_CONSUMER_GROUP_ID: str = "integr8scode-backend"
    KAFKA_AUTO_OFFSET_RESET: str = "earliest"
    KAFKA_ENABLE_AUTO_COMMIT: bool = True
    KAFKA_SESSION_TIMEOUT_MS: int = 45000
    KAFKA_HEARTBEAT_INTERVAL_MS: int = 10000
    KAFKA_MAX_POLL_INTERVAL_MS: int = 300000
    KAFKA_MAX_POLL_RECORDS: int = 500
    KAFKA_REQUEST_TIMEOUT_MS: int = 40000
    DLQ_RETRY_MAX_ATTEMPTS: int = 5
    DLQ_RETRY_BASE_DELAY_SECONDS: float = 60.0
    DLQ_RETRY_MAX_DELAY_SECONDS: float = 3600.0
    DLQ_RETENTION_DAYS: int = 7
    DLQ_WARNING_THRESHOLD: int = 100
    DLQ_CRITICAL_THRESHOLD: int = 1000

    # event streams and notifications
    SSE_CONSUMER_POOL_SIZE: int = 10
    SSE_HEARTBEAT_INTERVAL: int = 30
    NOTIF_THROTTLE_WINDOW_HOURS: int = 1
    NOTIF_THROTTLE_MAX_PER_HOUR: int = 5
    NOTIF_MAX_SCHEDULE_DAYS: int = 25

    # Kubernetes
    KUBERNETES_CONFIG_PATH: str = "~/.kube/config"
    KUBERNETES_CA_CERTIFICATE_PATH: str | None = None
    K8S_NAMESPACE: str = "integr8scode"
    K8S_MAX_CONCURRENT_PODS: int = 10
    K8S_POD_CPU_LIMIT: str = "1000m"
    K8S_POD_MEMORY_LIMIT: str = "128Mi"
    K8S_POD_CPU_REQUEST: str = "1000m"
    K8S_POD_MEMORY_REQUEST: str = "128Mi"
    K8S_POD_EXECUTION_TIMEOUT: int = 300
    K8S_POD_PRIORITY_CLASS_NAME: str | None = None
    SUPPORTED_RUNTIMES: dict[str, LanguageInfo] = Field(default_factory=lambda: SUPPORTED_RUNTIMES)
    EXAMPLE_SCRIPTS: dict[str, str] = Field(default_factory=lambda: EXAMPLE_SCRIPTS)

    # telemetry: the keys are accepted, the stand-in sends none
    OTLP_TRACES_ENDPOINT: str = ""
    OTEL_EXPORTER_OTLP_ENDPOINT: str | None = None
    TRACING_SAMPLING_RATE: float = Field(default=0.1, ge=0.0, le=1.0)
    TRACING_SERVICE_NAME: str = "integr8scode-backend"
    TRACING_SERVICE_VERSION: str = "1.0.0"
