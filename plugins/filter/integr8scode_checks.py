"""Filters that list what stands in the way of a deploy; each answer names the cure."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

BCRYPT_MAX_BYTES = 72  # bcrypt ignores what comes after; the application hashes users' passwords with it
SECRET_KEY_MIN = 32  # the application's own minimum for SECRET_KEY
PASSWORD_MIN = 12
K3S_TOKEN_MIN = 16  # what the role k3s refuses below
_MAKE_ONE = "Make one: openssl rand -base64 48"
# control characters, and what Unicode and YAML count as line breaks beside them
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLACEHOLDER = re.compile(r"change.?me|replace.?me|placeholder|not-a-secret|example|your[_-]|todo|<.*>", re.IGNORECASE)
# what servers use, too; Ansible adds the project's folder to ansible.module_utils there alone
_saslprep = runpy.run_path(str(Path(__file__).parents[1] / "module_utils" / "saslprep.py"))["saslprep"]
# the guide's and the application's published defaults
_DEFAULTS = frozenset({"rootpassword", "user123", "admin123", "root", "admin", "password", "integr8scode"})


def _problems_of_text(name: str, value: object) -> list[str]:
    """What keeps a value out of every format that it goes into."""
    if value is None or value == "":
        return [f"{name} is missing. Put it into the inventory's vault.yml (ansible-vault edit)."]
    if not isinstance(value, str):
        # YAML reads 0123 or yes as something else, so what was typed is lost already
        return [f"{name} is no text: YAML reads it as {_yaml_type(value)}. Put it into quotes in vault.yml."]
    try:
        value.encode()
    except UnicodeEncodeError:
        return [f"{name} is not valid Unicode text. Store the file that it comes from as UTF-8."]
    if _UNPRINTABLE.search(value):
        problem = (
            f"{name} holds a line break or another control character, which not every format that it is written into "
            f"can carry. Write it in one line, in quotes (a block, `|`, ends with a line break). {_MAKE_ONE}"
        )
        return [problem]
    return []


def _yaml_type(value: object) -> str:
    """The type of what YAML has read, by its plain name: Ansible's own classes say little to people."""
    known = (bool, int, float, list, dict)
    return next((kind.__name__ for kind in known if isinstance(value, kind)), type(value).__name__)


def _forbidden_by_mongodb(password: str) -> bool:
    try:
        _saslprep(password)
    except ValueError:
        return True
    return False


def _problems_of_secret(name: str, value: object, minimum: int, allow_fake: bool) -> list[str]:
    problems = _problems_of_text(name, value)
    if problems:
        return problems
    text = str(value)
    if len(text) < minimum:
        problems.append(f"{name} has {len(text)} characters, {minimum} are the least. {_MAKE_ONE}")
    if not allow_fake and (text.lower() in _DEFAULTS or _PLACEHOLDER.search(text)):
        problems.append(f"{name} is a default or placeholder value. {_MAKE_ONE}")
    if name.endswith("mongo_root_password") and _forbidden_by_mongodb(text):
        problems.append(
            f"{name} holds a character that MongoDB takes in no password (it prepares them by RFC 4013, which knows no "
            f"emoji, no private and no newer characters, and no mix of directions of writing). {_MAKE_ONE}"
        )
    return problems


def secret_problems(secrets: dict[str, Any], allow_fake: bool = False) -> list[str]:
    """Return what is wrong with the secrets, never showing one.

    :param secrets: by name of the variable; names that end in ``secret_key`` need 32 characters,
        ``k3s_token`` 16, those that end in ``username`` any, others 12.
    :param allow_fake: whether published defaults and placeholders pass, as in the lab.
    """
    problems = []
    for name, value in secrets.items():
        if name.endswith("username"):
            # not secret, but written beside the passwords into the same formats
            problems += _problems_of_text(name, value)
            continue
        minimum = K3S_TOKEN_MIN if name == "k3s_token" else PASSWORD_MIN
        if name.endswith("secret_key"):
            minimum = SECRET_KEY_MIN
        problems += _problems_of_secret(name, value, minimum, bool(allow_fake))
        if name == "k3s_token" and re.search(r"\s", str(value or "")):
            problems.append(f"{name} holds white space, which k3s does not take. {_MAKE_ONE}")
        size = len(str(value or "").encode("utf-8", "replace"))
        if name.endswith(("_user_password", "_admin_password")) and size > BCRYPT_MAX_BYTES:
            problems.append(
                f"{name} has {size} bytes in UTF-8, and bcrypt, by which the application keeps it, reads "
                f"{BCRYPT_MAX_BYTES} at most. Shorten it."
            )
    return problems


def _problems_of_work(state: dict[str, Any]) -> list[str]:
    """Whether the server switches at this moment; whose lock is left over is judged when it is taken."""
    switching = state.get("switching", False)
    if switching is None:
        problem = (
            "systemd does not answer on the server, so nobody knows whether it switches between releases at this "
            "moment, and no switch could be started. See `systemctl status` there; run again when it answers."
        )
        return [problem]
    if not switching:
        return []
    held = state.get("lock") or {}
    who = held.get("description") or "nobody knows whose."
    problem = (
        f"the server switches between releases at this moment: {who} It goes on without its controller. Wait for its "
        "end (`journalctl -fu integr8scode-switch` on the server shows it), then run again."
    )
    return [problem]


def _problems_of_kubernetes(state: dict[str, Any]) -> list[str]:
    found = [(worker, answer["problem"]) for worker, answer in state.get("kubernetes", {}).items() if answer["problem"]]
    if not found:
        return []
    said = "; ".join(f"{worker}: {problem}" for worker, problem in found)
    problem = (
        f"the workers cannot use Kubernetes, and no execution would run ({said}). `systemctl status k3s` on the "
        "server; playbooks/recover-k3s.yml brings k3s back, playbooks/site.yml renews the kubeconfigs. To ship all the "
        "same: -e integr8scode_verify_kubernetes=false"
    )
    return [problem]


def state_problems(state: dict[str, Any], needs: dict[str, Any]) -> list[str]:
    """Return what on a server stands in the way of a deploy.

    :param state: the answer of the module ``integr8scode_state``.
    :param needs: ``ports`` (list), ``memory_mb``, ``disk_mb`` (least total memory and free disk), ``kubernetes``
        (whether the workers must be able to use it).
    """
    problems = _problems_of_work(state)
    foreign = state["foreign"]
    if foreign["containers"] or foreign["volumes"]:
        where = sorted({entry["working_dir"] for entry in foreign["containers"]})
        names = sorted(entry["name"] for entry in foreign["containers"]) or foreign["volumes"]
        problems.append(
            f"another installation with the Compose project name 'integr8scode' is on this server"
            f"{' (from ' + ', '.join(where) + ')' if where else ''}: {', '.join(names)}. Deploying would seize its "
            "containers and volumes. Move its data away and remove it (`docker compose down` in its folder keeps the "
            "volumes, `down --volumes` deletes them)."
        )
    # an engine that cannot be asked (site.yml mends that) may still publish the ports of what was deployed
    deployed = state.get("release") is not None and not state["docker"]["available"]
    own = {"docker-proxy", "haproxy"} if state["containers"].get("edge") or deployed else set()
    for port in needs["ports"]:
        listener = state["listeners"].get(str(port))
        if listener is not None and listener not in own and not (foreign["containers"] and listener == "docker-proxy"):
            problems.append(
                f"port {port} is taken by {listener}. Stop that program, or choose another port "
                "(integr8scode_https_port, integr8scode_frontend_port)."
            )
    if needs.get("kubernetes"):
        problems += _problems_of_kubernetes(state)
    total = state["memory"]["total_bytes"] // 2**20
    if total < needs["memory_mb"]:
        problems.append(
            f"the server has {total} MiB of memory, the stack with k3s needs {needs['memory_mb']} "
            "(integr8scode_min_memory_mb)."
        )
    for place in state["disk"].values():
        free = place["free_bytes"] // 2**20
        if free < needs["disk_mb"]:
            problems.append(
                f"{place['path']} has {free} MiB free, a deploy needs {needs['disk_mb']} "
                "(integr8scode_min_free_disk_mb). `docker system df` says what uses it."
            )
        if place["free_inodes"] is not None and place["free_inodes"] < 20000:
            problems.append(f"{place['path']} has only {place['free_inodes']} inodes free, an image needs some 20000.")
    return problems


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"secret_problems": secret_problems, "state_problems": state_problems}
