"""Filters for playbooks that ship releases or go back: what stands in the way, who waits, and what happened where."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

MIB = 2**20
# how many numbers of its version a database's data depends on: 8.0 and 8.2 of MongoDB write other files
DATA_VERSIONS = {"mongo": 2, "kafka": 1}
SPARE_MIB = 64
# what the server does by itself, by the phase of who holds its lock
AT_WORK = {"switching": "switches between releases", "restoring": "replaces its data by those of a backup"}
UNFINISHED = "That restore did not end, so the data may be incomplete: run it again."
# of the run that has the server at work, by what is known of its process
_BEGAN = {
    True: "The process that began it works on this machine.",
    False: "The process that began it, on this machine, has ended: the server does not need it.",
    None: "Whether the process that began it lives is not known here, and the server does not need it.",
}
ENDINGS = {
    "rolled_back": "failed and was taken back",
    "removed": "failed and was removed",
    "failed": "FAILED, and so did the way back",
    "refused": "refused",
}


def _version(image: str, numbers: int) -> tuple[str, ...]:
    """The first numbers of an image's tag; () for one that has none."""
    tag = image.partition("@")[0].rpartition(":")[2]
    found = re.match(r"v?(\d+(?:\.\d+)*)", tag)
    return tuple(found[1].split(".")[:numbers]) if found else ()


def major_problems(state: dict[str, Any], images: dict[str, str], backup_before: bool) -> list[str]:
    """Return which databases would get another major version although no dump is made before.

    :param state: the answer of the module ``integr8scode_state``.
    :param images: image reference of each service that is to run.
    :param backup_before: whether MongoDB is dumped first.
    """
    if backup_before:
        return []
    # what a removed container leaves are its data, in the form of the release that runs
    deployed: dict[str, str] = (state.get("release") or {}).get("images") or {}
    problems = []
    for service, numbers in DATA_VERSIONS.items():
        running = state["containers"].get(service) or [{"image": deployed.get(service, "")}]
        wanted = _version(images.get(service, ""), numbers)
        now = _version(running[0]["image"], numbers)
        if now and wanted and now != wanted:
            problems.append(
                f"{service} would go from {'.'.join(now)} to {'.'.join(wanted)}: its data are then written in another "
                "form, and no rollback takes that back. Have MongoDB dumped first, and read docs/releases.md: "
                "-e integr8scode_backup_before_deploy=true"
            )
    return problems


def memory_notes(state: dict[str, Any]) -> list[str]:
    """Return which services cannot run twice for a moment, so that their users will notice the switch.

    :param state: the answer of the module ``integr8scode_state``.
    """
    available = state["memory"]["available_bytes"] // MIB
    notes = []
    for service in ("backend", "frontend"):
        running = state["containers"].get(service) or []
        limit = max((container.get("memory_bytes") or 0 for container in running), default=0) // MIB
        if running and available < limit + SPARE_MIB:
            notes.append(
                f"{available} MiB of memory are free, a second copy of {service} may need {limit}: if it has to be "
                "replaced, that happens in place, and for some seconds nobody answers."
            )
    return notes


def hosts_not_done(hosts: Iterable[str], hostvars: Mapping[str, Any], run: str) -> list[str]:
    """Return the servers that a run has not finished with, in the order in which every run locks them."""
    return sorted(host for host in hosts if hostvars[host].get("__integr8scode_done") != run)


def lost_before(hosts: Sequence[str], batch: Sequence[str], hostvars: Mapping[str, Any], run: str) -> list[str]:
    """Return the servers of earlier batches that a run has not finished with.

    Ansible stops at one that failed by itself, and goes on with the next batch after one that got out of reach.

    :param hosts: all servers of the run, in its order.
    :param batch: those of this batch.
    """
    earlier = hosts[: min((hosts.index(host) for host in batch), default=0)]
    return hosts_not_done(earlier, hostvars, run)


def _in_the_way(result: Mapping[str, Any]) -> bool:
    # a loop that ends early leaves out the rest
    return bool(result.get("locked")) or "owner" not in result


def lock_problems(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which servers could not be locked and why.

    :param results: of a loop of the module ``release_lock`` over servers.
    """
    return [
        f"{result.get('item')}: {str(result.get('msg', 'no answer')).removeprefix('Nothing was changed. ')}"
        for result in results
        if not result.get("skipped") and _in_the_way(result)
    ]


def replaced_locks(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return whose locks were taken over because their runs are dead, and what was written down for such a run.

    :param results: of a loop of the module ``release_lock`` over servers.
    """
    taken = [
        f"{result.get('item')}: the lock of {owner['action'] or 'a run'} {owner['what']} by "
        f"{owner['by'] or 'somebody'} (since {owner['since']}) was left over"
        + (f". {UNFINISHED}" if owner["action"] == "restore" else "; this run goes on from there.")
        for result in results
        if isinstance(owner := result.get("replaced"), Mapping)
    ]
    return taken + [f"{one.get('item')}: {one['recorded']}." for one in results if one.get("recorded")]


def _held(found: Mapping[str, Any]) -> str:
    return str(found.get("description") or found.get("msg") or "").removeprefix("Nothing was changed. ")


def lock_sentences(found: Mapping[str, Any], host: str) -> list[str]:
    """Return who holds a server's lock and whether that run is known to be over, as sentences.

    :param found: the answer of the module ``release_lock`` to ``read``.
    """
    held = _held(found)
    if not held:
        return [f"{host}: nobody holds the lock."]
    said = [f"{host}: {held}"]
    owner = found.get("owner") or {}
    lives = found.get("holder_lives")
    if found.get("stale"):
        said.append(f"That run is over: {found['stale']}. The next deploy takes its lock over by itself.")
        if owner.get("action") == "restore":
            said.append(UNFINISHED)
    elif doing := AT_WORK.get(owner.get("phase", "")):
        said.append(f"The server {doing} at this moment, by itself: wait for its end. {_BEGAN[lives]}")
    elif lives:
        said.append("Its process works on this machine: wait for its end, or end it.")
    elif owner:
        said.append(
            "Whether it lives is not known here: it began on another machine, or before this one was started again."
        )
    if unlock_problems(found, host, host, False):
        return said
    return [*said, f"To remove the lock: ansible-playbook playbooks/unlock.yml --limit {host} -e unlock_confirm={host}"]


def unlock_problems(found: Mapping[str, Any], host: str, confirmed: str, force: bool) -> list[str]:
    """Return why a server's lock is not removed.

    :param found: the answer of the module ``release_lock`` to ``read``.
    :param confirmed: the server's name as the person gave it.
    :param force: whether a holder that may live is no reason.
    """
    problems = []
    if confirmed != host:
        problems.append(
            f"unlock_confirm is {confirmed}, this server is {host}: --limit {host} -e unlock_confirm={host}"
        )
    owner = found.get("owner")
    if not owner or found.get("stale") or force:
        return problems
    anyway = "To remove the lock all the same: -e unlock_force=true"
    if doing := AT_WORK.get(owner.get("phase")):
        problems.append(f"the server {doing} at this moment: {_held(found)} Wait for its end. {anyway}")
    elif found.get("holder_lives"):
        problems.append(f"its holder works on this machine: {_held(found)} End that run first. {anyway}")
    return problems


def _no_way_back(running: str, left: str | None) -> str:
    """Why a rollback that names no release has none to go to, and what there is to do."""
    if left:
        return (
            f"a rollback does not go forward again to {left}, which a rollback has left, and no release from before "
            f"{running} is kept. To have {left} serve: ansible-playbook playbooks/rollback.yml -e to={left}."
        )
    return (
        f"no release that served before {running} is kept. To ship another one: ansible-playbook deploy.yml -e tag=TAG."
    )


def choose_rollback(state: dict[str, Any], to: str = "") -> dict[str, Any]:
    """Return the release to go back to as ``release``, or why there is none as ``problem``.

    :param state: the answer of the module ``integr8scode_state``.
    :param to: id or tag of a release; empty for the one that served before. Of several with one tag the one that served
        last is taken, then the newest.
    """
    kept: list[dict[str, Any]] = state["releases"]
    running = (state["release"] or {}).get("id")
    # what never served is no way back
    served = [release["id"] for release in kept if release["served_at"] and release["id"] != running]

    def none(problem: str) -> dict[str, Any]:
        names = ", ".join(served) or "none"
        return {"release": None, "problem": f"{problem} Kept on this server of those that have served: {names}."}

    if not running:
        return none("nothing is deployed here, so there is nothing to go back from. Deploy a release.")
    by_id = {release["id"]: release for release in kept}
    if not to:
        target = state["rollback_target"]
        if target is None:
            return none(_no_way_back(str(running), state.get("rollback_left")))
        return {"release": by_id[target], "problem": ""}
    if to in by_id:
        return {"release": by_id[to], "problem": ""}
    of_tag = [release for release in kept if release["tag"] == to]
    # the running one is no way back, unless it is all that there is
    candidates = [release for release in of_tag if release["id"] != running] or of_tag
    if candidates:
        newest_last = sorted(candidates, key=lambda one: (one["served_at"] or "", one["created_at"]))
        return {"release": newest_last[-1], "problem": ""}
    return none(f"{to} is not kept. To get it from the registry: ansible-playbook deploy.yml -e tag={to}.")


def complete_releases(state: dict[str, Any]) -> list[str]:
    """Return the ids of the kept releases whose images are all on the server, the newest first.

    :param state: the answer of the module ``integr8scode_state``.
    """
    return [release["id"] for release in state["releases"] if release["missing"] == []]


def without_digest(images: Mapping[str, str]) -> dict[str, str]:
    """Return image references without the digests that they are pinned by."""
    return {service: image.partition("@")[0] for service, image in images.items()}


def locked_digests(images: Mapping[str, str]) -> dict[str, str]:
    """Return the digest of each reference of pinned images."""
    pairs = (image.partition("@") for image in images.values())
    return {reference: digest for reference, _, digest in pairs if digest}


def _fate_of_lost(host: str, switch: Mapping[str, Any], before: str) -> str:
    """What is known of a server that got out of reach when it was its turn."""
    if switch.get("result"):
        serving = f"{switch['release']} serves" if switch.get("release") else "no release serves for sure"
        how = ENDINGS.get(switch["result"], "switched")
        return f"{host}: {how}, {serving}; then it got out of reach"
    if switch.get("unreachable") or switch.get("failed") or switch.get("done") is False:
        return f"{host}: got out of reach while it switched; playbooks/status.yml says how that ended"
    return f"{host}: got out of reach before it switched; {before} was left as it is"


def _may_go_on(switch: Mapping[str, Any]) -> bool:
    """Whether a switch without a result may have begun: it is followed no more, or its task failed without knowing."""
    if switch.get("failed"):
        return bool(switch.get("changed")) or not str(switch.get("msg", "")).startswith("Nothing was changed")
    return switch.get("done") is False


def _fate(host: str, variables: Mapping[str, Any], run: str) -> str:
    state = variables.get("__integr8scode_state") or {}
    # of a server that did not even answer the first look, nothing is known
    before = (state["release"] or {}).get("id") or "nothing" if "release" in state else "what it had"
    switch = variables.get("__integr8scode_switch") or {}
    failed = variables.get("__integr8scode_failed") or {}
    if variables.get("__integr8scode_done") == run:
        lost = f"; lost: {', '.join(switch['lost'])}" if switch.get("lost") else ""
        if switch.get("result") == "unchanged":
            return f"{host}: nothing to do, {switch['release']} serves{lost}"
        serves = switch.get("release") or before
        seconds = f" ({switch['seconds']:.0f} s)" if switch.get("seconds") else ""
        return f"{host}: {serves} serves{seconds}{lost}"
    if failed.get("run") == run:
        if switch.get("result") in ENDINGS:
            serving = f"{switch['release']} serves" if switch.get("release") else "no release serves for sure"
            return f"{host}: {ENDINGS[switch['result']]}; {serving}"
        if switch.get("result"):
            lost = f"; lost: {', '.join(switch['lost'])}" if switch.get("lost") else ""
            return f"{host}: {switch['release']} serves{lost}; then it failed at {failed.get('task', '?')}"
        if _may_go_on(switch):
            return f"{host}: it is not known how the switch ended; playbooks/status.yml says it"
        return f"{host}: failed at {failed.get('task', '?')}; {before} was left as it is"
    if variables.get("__integr8scode_begun") == run:
        return _fate_of_lost(host, switch, before)
    return f"{host}: untouched; {before} serves"


def run_summary(hosts: Sequence[str], hostvars: Mapping[str, Any], run: str) -> list[str]:
    """Return what a run did to each server, one line each.

    :param hosts: all servers of the run.
    :param hostvars: their variables, as the role integr8scode sets them.
    """
    return [_fate(host, hostvars[host], run) for host in hosts]


class FilterModule:
    """Ansible's entry point."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "major_problems": major_problems,
            "memory_notes": memory_notes,
            "hosts_not_done": hosts_not_done,
            "lost_before": lost_before,
            "lock_problems": lock_problems,
            "replaced_locks": replaced_locks,
            "lock_sentences": lock_sentences,
            "unlock_problems": unlock_problems,
            "choose_rollback": choose_rollback,
            "complete_releases": complete_releases,
            "without_digest": without_digest,
            "locked_digests": locked_digests,
            "run_summary": run_summary,
        }
