"""Sessions: a JWT in one cookie, and a CSRF token signed for it in another that must come back as a header."""

import hmac
import secrets
from datetime import UTC, datetime, timedelta

import jwt
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.errors import InvalidCredentialsError
from app.log import log
from app.settings import Settings

_CSRF_EXEMPT = {"/api/v1/auth/login", "/api/v1/auth/register"}


def access_token(settings: Settings, username: str) -> str:
    """Sign a session.

    Args:
        settings: SECRET_KEY, ALGORITHM, ACCESS_TOKEN_EXPIRE_MINUTES.
        username: whose it is.

    Returns:
        The JWT.
    """
    expires = datetime.now(UTC) + timedelta(minutes=settings.ACCESS_TOKEN_EXPIRE_MINUTES)
    return jwt.encode({"sub": username, "exp": expires}, settings.SECRET_KEY, algorithm=settings.ALGORITHM)


def username_of(settings: Settings, token: str) -> str:
    """Read a session.

    Args:
        settings: SECRET_KEY, ALGORITHM.
        token: the JWT.

    Returns:
        The user's name.

    Raises:
        InvalidCredentialsError: expired, or not signed by us.
    """
    try:
        name = jwt.decode(token, settings.SECRET_KEY, algorithms=[settings.ALGORITHM]).get("sub")
    except jwt.PyJWTError as error:
        raise InvalidCredentialsError from error
    if name is None:
        raise InvalidCredentialsError
    return str(name)


def csrf_token(settings: Settings, session: str) -> str:
    """Make the CSRF token that goes with a session.

    Args:
        settings: SECRET_KEY.
        session: the session's JWT.

    Returns:
        A nonce, a dot, and the signature over nonce and session.
    """
    nonce = secrets.token_urlsafe(16)
    return f"{nonce}.{_signature(settings, nonce, session)}"


def _signature(settings: Settings, nonce: str, session: str) -> str:
    return hmac.new(settings.SECRET_KEY.encode(), f"{nonce}:{session}".encode(), "sha256").hexdigest()


def _csrf_problem(settings: Settings, request: Request) -> str:
    session = request.cookies.get("access_token")
    path = request.url.path
    if (
        request.method in {"GET", "HEAD", "OPTIONS"}
        or path in _CSRF_EXEMPT
        or not path.startswith("/api/")
        or not session
    ):
        return ""
    header = request.headers.get("x-csrf-token", "")
    if not header:
        return "CSRF token missing from X-CSRF-Token header"
    if not hmac.compare_digest(header, request.cookies.get("csrf_token", "")):
        return "CSRF token invalid or does not match cookie"
    nonce, _, signature = header.partition(".")
    if not hmac.compare_digest(signature, _signature(settings, nonce, session)):
        return "CSRF token signature invalid"
    return ""


class CSRFMiddleware:
    """Answers 403 to a request of a logged-in browser that changes something and brings no token.

    Args:
        app: what is protected.
        settings: SECRET_KEY.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one ASGI connection."""
        problem = _csrf_problem(self._settings, Request(scope)) if scope["type"] == "http" else ""
        if problem:
            log.warning("CSRF validation failed", path=scope["path"], method=scope["method"], reason=problem)
            refusal = JSONResponse({"detail": "CSRF validation failed"}, status_code=403)
            await refusal(scope, receive, send)
            return
        await self._app(scope, receive, send)
