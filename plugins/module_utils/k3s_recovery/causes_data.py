"""Causes in what k3s keeps: the datastore, the token, certificates, the node's password."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible.module_utils.k3s_recovery.cause import RECOVER, Cause, View, listed
from ansible.module_utils.k3s_recovery.facts import full
from ansible.module_utils.k3s_recovery.listeners import AUTHORITIES
from ansible.module_utils.k3s_recovery.probes import EMPTY

CLOCK_SECONDS = 300  # clocks of this size of difference are no cause


def check(view: View) -> Iterator[Cause]:
    """Every cause of this kind."""
    yield from _files(view)
    yield from _password(view)
    yield from _certificates(view)
    yield from _token(view)
    if view.facts.datastore.kind == "external":
        yield from _external(view)
    elif view.facts.datastore.kind == "etcd":
        yield from _etcd(view)
    else:
        yield from _database(view)
        yield from _replaced(view)


def _files(view: View) -> Iterator[Cause]:
    match = view.matches.get("newer_files")
    if match is None:
        return
    files = [one for one in re.split(r"[,\s]+", match.values["files"]) if one.startswith("/")]
    sentence = (
        f"On disk {listed(files)} {'is' if len(files) == 1 else 'are'} newer than the copy in the datastore and not "
        "the same: k3s refuses to start. Put aside, they are made again from the datastore."
    )
    yield Cause("certificate_newer_than_datastore", sentence, [match.line], "bootstrap_files", details={"files": files})


def _password(view: View) -> Iterator[Cause]:
    if view.line("node_password"):
        sentence = (
            f"The node {view.facts.node_name} is refused: /etc/rancher/node/password is not the one with which it was "
            "registered."
        )
        details = {"node": view.facts.node_name}
        yield Cause("node_password_rejected", sentence, view.line("node_password"), "node_password", details=details)


def _certificates(view: View) -> Iterator[Cause]:
    facts = view.facts
    # while k3s works, only what it shows now counts: it signs the others again at its next start
    found = [facts.served] if facts.served else []
    # where the CA file itself is the wrong one, what it does not fit is right
    found += [] if view.well or view.line("newer_files") else facts.certificates
    early = [one for one in found if one.problem == "early" or one.not_before > facts.now + CLOCK_SECONDS]
    lines = view.line("certificate") + view.line("certificate_time")
    if early:
        sentence = f"This server's clock is wrong: {early[0].place} is not valid yet, by the time that the clock shows."
        cure = "set the clock (timedatectl set-ntp true, then timedatectl status) and run it again"
        yield Cause("clock_wrong", sentence, lines, "", cure)
        return
    late = [one.place for one in found if one.place.endswith(AUTHORITIES) and one.not_after < facts.now]
    if late:
        sentence = f"k3s' own certificate authority has expired ({listed(late)})."
        cure = "k3s certificate rotate-ca, by the vendor's instructions: renew every kubeconfig and token after it"
        yield Cause("authority_expired", sentence, lines, "", cure)
        return
    bad = [one for one in found if one.problem]
    if not bad and not (lines and (facts.api.problem or not facts.unit.running)):
        return
    names = {"expired": "has expired", "foreign": "is not signed by this server's certificate authority"}
    what = [f"{one.place} {names[one.problem]}" for one in bad] or ["k3s does not trust its own certificates"]
    seen = [f"{one.place}: {one.words}" for one in bad]
    sentence = (
        f"{what[0][0].upper()}{what[0][1:]}: the API server's clients refuse it, and no start has corrected that."
    )
    yield Cause("certificate_mismatch", sentence, seen + lines, "certificates")


def _token(view: View) -> Iterator[Cause]:
    waiting = view.matches.get("waiting_token")
    if waiting is not None:
        sentence = f"The token file {waiting.values['file']} is not there: k3s waits for it."
        yield Cause("token_mismatch", sentence, [waiting.line], "token")
        return
    if view.well:
        return
    told = view.facts.datastore.token
    wrong = told is False or (told is None and view.facts.token_matches is False)
    if not wrong and not view.line("token"):
        return
    named = view.facts.configuration.items("token-file") or view.facts.configuration.items("token")
    where = (named[-1].value or named[-1].place) if named else f"{view.facts.data_dir}/server/token"
    sentence = (
        f"The token ({where}) is not the one with which the cluster was made: k3s cannot read what it has stored."
    )
    evidence = view.line("token") or ["the datastore's bootstrap data belong to another token"]
    yield Cause("token_mismatch", sentence, evidence, "token")


def _external(view: View) -> Iterator[Cause]:
    if view.line("snapshot_datastore"):
        cure = "bring the external datastore back, or correct datastore-endpoint; it cannot be repaired from here"
        yield Cause(
            "datastore_unreachable",
            "The external datastore does not answer.",
            view.line("snapshot_datastore"),
            "",
            cure,
        )


def _only_by_name(view: View, rung: str) -> tuple[str, str]:
    """The rung with which etcd is healed, and the cure where nothing proves that this is the cluster's only server."""
    if len(view.servers) == 1:
        return rung, ""
    cure = (
        "nothing here tells how many servers the cluster has, and of several this would split it. If this is the only "
        f'one: {RECOVER} -e \'{{"recover_k3s_only_rungs": ["{rung}"]}}\'. If there are others: remove this one '
        f"there (k3s kubectl delete node), delete {view.facts.data_dir}/server/db here and let it join again"
    )
    return "", cure


def _etcd(view: View) -> Iterator[Cause]:
    member = view.matches.get("etcd_member")
    if member is not None:
        sentence = (
            "Embedded etcd knows this server by another address and does not let it in. With one server, a reset of "
            "the cluster's membership keeps all data."
        )
        yield Cause("etcd_membership", sentence, [member.line], *_only_by_name(view, "cluster_reset"))
    if view.line("etcd_damaged"):
        sentence = "The files of embedded etcd are damaged: it does not start with them."
        yield Cause("etcd_damaged", sentence, view.line("etcd_damaged"), *_only_by_name(view, "snapshot_restore"))
    if view.line("already_reset"):
        sentence = "A reset of the cluster's membership was done before and k3s not started normally since."
        yield Cause("reset_left", sentence, view.line("already_reset"), "restart")


def _database(view: View) -> Iterator[Cause]:
    facts = view.facts
    # what SQLite says of a full disk looks like damage
    full_disk = view.line("disk_full") or any(full(one) for one in facts.disks)
    if view.well:
        return
    if facts.datastore.kind == "none":
        yield from _missing(view)
        return
    problem = facts.datastore.problem
    if problem and "readonly" not in problem and not (full_disk and "full" in problem):
        sentence = f"The database {facts.datastore.path} is damaged: {problem}."
        details = {"missing": True} if problem == EMPTY else {}
        evidence = [f"SQLite: {problem}", *view.line("database")]
        yield Cause("database_damaged", sentence, evidence, "restore", details=details)
    elif view.line("database") and not full_disk:
        sentence = f"k3s cannot use its database {facts.datastore.path}."
        yield Cause("database_damaged", sentence, view.line("database"), "restore")


def _replaced(view: View) -> Iterator[Cause]:
    """A new, empty cluster: k3s makes one by itself where it finds no database, and nothing else is wrong with it."""
    kept, store = view.facts.kept, view.facts.datastore
    if kept is None or not 0 < store.revision < kept.revision:
        return
    missing = [one for one in kept.namespaces if one not in store.namespaces]
    if not missing:
        return
    sentence = (
        f"This is not the cluster of the last backup: its database begins anew, and the namespaces {listed(missing)} "
        "are not there. k3s makes an empty one where it finds none, as when a disk is not mounted."
    )
    evidence = [
        f"revision {store.revision} now, {kept.revision} in the backup of {kept.created}",
        f"backup: {kept.backup}",
    ]
    cure = (
        f"mount the disk of {view.facts.data_dir} if it is not, with k3s stopped; else put {kept.backup} back "
        "(playbooks/restore.yml). If the new cluster is meant: playbooks/backup.yml, and it is the one to compare with"
    )
    yield Cause("cluster_replaced", sentence, evidence, "", cure)


def _missing(view: View) -> Iterator[Cause]:
    facts = view.facts
    evidence = [f"{facts.data_dir}/{name} is missing" for name in facts.gone] or [f"no database in {facts.data_dir}"]
    if "server/tls" in facts.gone or not facts.certificates:
        sentence = (
            "Everything that k3s kept is gone: the database and the certificates. A start makes a new, empty cluster."
        )
        cure = (
            "restore a backup (playbooks/restore.yml); without one, only a new cluster remains, which no kubeconfig "
            f"and no token of before fits: -e recover_k3s_delete_cluster={facts.hostname}"
        )
        yield Cause("database_missing_all_gone", sentence, evidence, "", cure, {"missing": True})
        return
    sentence = (
        "The database is gone, the certificates are there: a start makes an empty cluster with the same authority."
    )
    yield Cause("database_damaged", sentence, evidence, "restore", details={"missing": True})
