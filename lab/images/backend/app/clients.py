"""Who is asking."""

from starlette.requests import Request


def client_address(request: Request) -> str:
    """Return the client's address as the program believes it.

    Whatever a client writes into X-Forwarded-For is believed, so whoever faces the internet must replace that header.

    Args:
        request: the request.

    Returns:
        The first entry of X-Forwarded-For, else X-Real-IP, else the peer's address.
    """
    if forwarded := request.headers.get("x-forwarded-for"):
        return forwarded.split(",")[0].strip()
    if real := request.headers.get("x-real-ip"):
        return real
    return request.client.host if request.client else "127.0.0.1"
