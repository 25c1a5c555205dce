"""Refusals with an HTTP status. Their class names are part of the answer's body."""


class DomainError(Exception):
    """A refusal that the client is told about.

    Args:
        message: the answer's `detail`.
    """

    status = 500

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class AuthenticationRequiredError(DomainError):
    """No session cookie."""

    status = 401

    def __init__(self) -> None:
        super().__init__("Not authenticated")


class InvalidCredentialsError(DomainError):
    """Wrong user name, password or token."""

    status = 401

    def __init__(self) -> None:
        super().__init__("Invalid credentials")


class ForbiddenError(DomainError):
    """Somebody else's execution."""

    status = 403


class ExecutionNotFoundError(DomainError):
    """No such execution."""

    status = 404

    def __init__(self, execution_id: str) -> None:
        super().__init__(f"Execution '{execution_id}' not found")


class ExecutionTerminalError(DomainError):
    """The execution has ended already."""

    status = 400


class AccountLockedError(DomainError):
    """Too many failed logins."""

    status = 423


class InfrastructureError(DomainError):
    """Kafka did not take an event."""

    status = 500
