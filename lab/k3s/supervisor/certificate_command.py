"""`k3s certificate check` and `k3s certificate rotate` (`pkg/cli/cert`): on the files, whether k3s runs or not."""

import datetime as dt
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import certificates, logs, pki
from .listener import Listener
from .logs import FatalError
from .paths import Paths
from .settings import DEFAULT_DATA_DIR

_FORMATS = ("text", "table", "json", "yaml")
_USAGES = {ExtendedKeyUsageOID.CLIENT_AUTH: "ClientAuth", ExtendedKeyUsageOID.SERVER_AUTH: "ServerAuth"}
_COLUMNS = ("FILENAME", "SUBJECT", "USAGES", "EXPIRES", "RESIDUAL TIME", "STATUS")
_UNITS = (("year", 31_536_000), ("month", 2_592_000), ("week", 604_800), ("day", 86_400), ("hour", 3_600),
          ("minute", 60), ("second", 1))  # fmt: skip


@dataclass(frozen=True)
class Options:
    """What was asked for on the command line."""

    paths: Paths
    services: tuple[str, ...]
    output: str


def parse(arguments: list[str]) -> Options:
    """Read the options of a subcommand; config.yaml is not read, as in k3s.

    Raises:
        FatalError: an unknown option or service.
    """
    data_dir, services, output = os.environ.get("K3S_DATA_DIR") or str(DEFAULT_DATA_DIR), [], "text"
    queue = list(arguments)
    while queue:
        name, equals, value = queue.pop(0).partition("=")
        name = name.lstrip("-")
        if name not in {"service", "s", "data-dir", "d", "output", "o"}:
            raise FatalError(f"Error: flag provided but not defined: -{name}")
        if not equals:
            if not queue:
                raise FatalError(f"Error: flag needs an argument: -{name}")
            value = queue.pop(0)
        if name in {"service", "s"}:
            services += value.split(",")
        elif name in {"data-dir", "d"}:
            data_dir = value
        else:
            output = value
    for service in services:
        if service not in certificates.SERVICES:
            raise FatalError(f"Error: service {service} is not recognized")
    return Options(Paths(Path(data_dir).absolute()), tuple(services), output)


def _chosen(options: Options, doing: str) -> tuple[str, ...]:
    if options.services:
        return options.services
    logs.info(f"Server detected, {doing} agent and server certificates")
    return certificates.SERVICES


def rotate(options: Options) -> None:
    """Put the certificates of the services aside, so that the next start makes new ones.

    Raises:
        FatalError: there is no server here.
    """
    if not options.paths.tls.is_dir():
        raise FatalError(f"Error: stat {options.paths.tls}: no such file or directory")
    services = _chosen(options, "rotating")
    backup = certificates.back_up(options.paths, services, int(time.time()))
    if "k3s-server" in services:
        pki.write_private(Listener.of(options.paths.tls).trigger, b"")
        logs.info("Rotating dynamic listener certificate")
    for service in services:
        if service != "k3s-server":
            logs.info(f"Rotating certificates for {service}")
        for file in certificates.files_of(options.paths, service):
            file.unlink(missing_ok=True)
    logs.info(
        f"Successfully backed up certificates to {backup}, please restart k3s server or agent to rotate certificates"
    )


@dataclass(frozen=True)
class Found:
    """One certificate in one file, as `check` shows it."""

    filename: str
    subject: str
    issuer: str
    usages: list[str]
    expires: dt.datetime
    residual: dt.timedelta
    status: str


def _common_name(name: x509.Name) -> str:
    values = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(values[0].value) if values else ""


def _usages(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        try:
            is_ca = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        except x509.ExtensionNotFound:
            return []
        return ["CertSign"] if is_ca else []
    return [_USAGES[usage] for usage in found if usage in _USAGES]


def status(certificate: x509.Certificate, now: dt.datetime) -> str:
    """Return k3s' word for a certificate's state."""
    if certificate.not_valid_before_utc > now:
        return "NOT YET VALID"
    if certificate.not_valid_after_utc < now:
        return "EXPIRED"
    return "WARNING" if certificate.not_valid_after_utc < now + pki.RENEW_BEFORE else "OK"


def collect(options: Options, now: dt.datetime) -> list[Found]:
    """Return every certificate of the services, chains included; files that hold none are passed over."""
    found = []
    for service in _chosen(options, "checking"):
        for file in certificates.files_of(options.paths, service):
            try:
                chain = x509.load_pem_x509_certificates(file.read_bytes())
            except (OSError, ValueError):
                continue
            for one in chain:
                state = status(one, now)
                expires = one.not_valid_before_utc if state == "NOT YET VALID" else one.not_valid_after_utc
                found.append(Found(
                    file.name, _common_name(one.subject), _common_name(one.issuer), _usages(one), expires,
                    one.not_valid_after_utc - now, state,
                ))  # fmt: skip
    return found


def humanize(span: dt.timedelta) -> str:
    """Return a span in one unit, e.g. `11 months`."""
    seconds = abs(int(span.total_seconds()))
    for unit, size in _UNITS:
        count = seconds // size
        if count:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "now"


def table(found: list[Found]) -> str:
    """Return the certificates as k3s' table."""
    rows = [_COLUMNS, tuple("-" * len(column) for column in _COLUMNS)]
    for one in found:
        expires = f"{one.expires:%b %d, %Y %H:%M} UTC"
        rows.append((
            one.filename, one.subject, ",".join(one.usages), expires, humanize(one.residual), one.status,
        ))  # fmt: skip
    widths = [max(len(row[index]) for row in rows) + 3 for index in range(len(_COLUMNS) - 1)]
    lines = ["".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] for row in rows]
    return "\n" + "\n".join(lines) + "\n"


def _say(one: Found) -> None:
    moment = one.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
    start = f"{one.filename}: certificate {one.subject} ({','.join(one.usages)})"
    if one.status == "NOT YET VALID":
        logs.error(f"{start} is not valid before {moment}")
    elif one.status == "EXPIRED":
        logs.error(f"{start} expired at {moment}")
    elif one.status == "WARNING":
        logs.warning(f"{start} will expire within {pki.RENEW_BEFORE.days} days at {moment}")
    else:
        logs.info(f"{start} is ok, expires at {moment}")


def _record(one: Found) -> dict[str, object]:
    values = asdict(one)
    nanoseconds = int(one.residual.total_seconds()) * 10**9
    expires = one.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "Filename": values["filename"], "Subject": values["subject"], "Issuer": values["issuer"],
        "Usages": values["usages"], "ExpiryTime": expires, "ResidualTime": nanoseconds, "Status": values["status"],
    }  # fmt: skip


def check(options: Options) -> None:
    """Show when the certificates end.

    Raises:
        FatalError: an unknown format.
    """
    if options.output not in _FORMATS:
        raise FatalError(f"Error: invalid output format {options.output}")
    found = collect(options, dt.datetime.now(dt.UTC))
    if options.output == "text":
        for one in found:
            _say(one)
    elif options.output == "table":
        print(table(found), end="")
    elif options.output == "json":
        print(json.dumps({"Certificates": [_record(one) for one in found]}))
    else:
        records = [{key.lower(): value for key, value in _record(one).items()} for one in found]
        print(yaml.safe_dump({"certificates": records}, sort_keys=False), end="")


def run(arguments: list[str]) -> None:
    """Run the subcommand that is the first word.

    Raises:
        FatalError: there is none of that name, or it failed.
    """
    name = arguments[0] if arguments else ""
    if name == "check":
        check(parse(arguments[1:]))
    elif name == "rotate":
        rotate(parse(arguments[1:]))
    else:
        raise FatalError(f"Error: the lab's k3s has no `certificate {name}`; use a real k3s to try that")
