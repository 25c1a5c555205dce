"""Login, logout, and the user who is logged in."""

from typing import Annotated, Any

import bcrypt
from fastapi import APIRouter, Depends, Request, Response
from fastapi.security import OAuth2PasswordRequestForm

from app.clients import client_address
from app.database import Document
from app.errors import AccountLockedError, AuthenticationRequiredError, InvalidCredentialsError
from app.events import new_event
from app.log import log
from app.security import access_token, csrf_token, username_of
from app.state import State, state_of

router = APIRouter(prefix="/auth", tags=["authentication"])

_MAX_ATTEMPTS = 5
_LOCK_SECONDS = 15 * 60
# an unknown user costs as much time as a wrong password; hash of a random string
_NOBODY = bcrypt.hashpw(b"nobody", bcrypt.gensalt(12)).decode()


async def current_user(request: Request) -> Document:
    """Find the user whose session the request carries.

    Args:
        request: the request.

    Returns:
        The user's document.

    Raises:
        AuthenticationRequiredError: no cookie.
        InvalidCredentialsError: a bad cookie, or the user is gone.
    """
    state = state_of(request)
    token = request.cookies.get("access_token")
    if not token:
        raise AuthenticationRequiredError
    user = await state.database.users.find_one({"username": username_of(state.settings, token)})
    if user is None:
        raise InvalidCredentialsError
    return user


CurrentUser = Annotated[Document, Depends(current_user)]


@router.post("/login")
async def login(
    request: Request, response: Response, form: Annotated[OAuth2PasswordRequestForm, Depends()]
) -> dict[str, str]:
    """Log in by a form: needs Mongo (the user), Redis (the lock-out) and Kafka (the event)."""
    state = state_of(request)
    caller = {"client_ip": client_address(request), "user_agent": request.headers.get("user-agent")}
    log.info("Login attempt", username=form.username, endpoint="/login", **caller)
    if await state.redis.exists(f"login_lockout:locked:{form.username}"):
        raise AccountLockedError("Account temporarily locked due to too many failed attempts")
    user = await state.database.users.find_one({"username": form.username})
    hashed = user["hashed_password"] if user else _NOBODY
    # in the event loop, as the real program does it: a copy answers nobody else for that quarter of a second
    matches = bcrypt.checkpw(form.password.encode(), hashed.encode())
    if user is None or not matches:
        await _refuse(state, form.username, "invalid_password" if user else "user_not_found", caller)
        raise InvalidCredentialsError
    await state.redis.delete(f"login_lockout:attempts:{form.username}", f"login_lockout:locked:{form.username}")
    minutes = state.settings.ACCESS_TOKEN_EXPIRE_MINUTES
    log.info("Login successful", username=form.username, token_expires_in_minutes=minutes, **caller)
    session = access_token(state.settings, form.username)
    csrf = csrf_token(state.settings, session)
    event = new_event(
        "user_logged_in",
        state.settings.SERVICE_NAME,
        user["user_id"],
        login_method="password",
        ip_address=caller["client_ip"],
        user_agent=caller["user_agent"],
    )
    await state.broker.produce({**event, "user_id": user["user_id"]}, form.username)
    for name, value, hidden in (("access_token", session, True), ("csrf_token", csrf, False)):
        response.set_cookie(
            name, value, max_age=minutes * 60, httponly=hidden, secure=True, samesite="strict", path="/"
        )
    response.headers["Cache-Control"] = "no-store"
    response.headers["Pragma"] = "no-cache"
    return {"message": "Login successful", "username": form.username, "role": user["role"], "csrf_token": csrf}


async def _refuse(state: State, username: str, reason: str, caller: dict[str, Any]) -> None:
    log.warning(f"Login failed - {reason}", username=username, **caller)
    key = f"login_lockout:attempts:{username}"
    attempts = await state.redis.incr(key)
    await state.redis.expire(key, _LOCK_SECONDS)
    locked = attempts >= _MAX_ATTEMPTS
    if locked:
        await state.redis.set(f"login_lockout:locked:{username}", "1", ex=_LOCK_SECONDS)
        log.warning("Account locked due to too many failed attempts", username=username, attempts=attempts)
    event = new_event(
        "auth_failed",
        state.settings.SERVICE_NAME,
        "",
        username=username,
        reason=reason,
        ip_address=caller["client_ip"],
    )
    await state.broker.produce(event, username)
    if locked:
        raise AccountLockedError("Account locked due to too many failed attempts")


@router.get("/me")
async def me(response: Response, user: CurrentUser) -> dict[str, Any]:
    """Say who is logged in."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["Pragma"] = "no-cache"
    fields = ("username", "email", "role", "is_active", "user_id", "is_superuser", "created_at", "updated_at")
    return {field: user.get(field) for field in fields}


@router.post("/logout")
async def logout(request: Request, response: Response) -> dict[str, str]:
    """Forget the session's cookies."""
    state = state_of(request)
    if token := request.cookies.get("access_token"):
        user = await state.database.users.find_one({"username": username_of(state.settings, token)})
        if user:
            event = new_event(
                "user_logged_out", state.settings.SERVICE_NAME, user["user_id"], logout_reason="user_initiated"
            )
            await state.broker.produce({**event, "user_id": user["user_id"]}, user["username"])
    response.delete_cookie("access_token", path="/")
    response.delete_cookie("csrf_token", path="/")
    return {"message": "Logout successful"}
