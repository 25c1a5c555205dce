"""Judges k3s and the way to it, certificates, tokens, and what the project has written down."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

from ansible.module_utils.doctor.finding import Finding, Seen
from ansible.module_utils.doctor.judge_services import docker_is_down
from ansible.module_utils.doctor.judge_stack import filled
from ansible.module_utils.doctor.signatures import matches

DAY = 86400.0
CERTIFICATE_DAYS, TOKEN_DAYS, BACKUP_DAYS = 14, 3, 2
LEASE_SECONDS = 1800
RECOVER = "playbooks/recover-k3s.yml"
_WELL = frozenset({"ok", "unchanged", "healed", "healthy", "noop"})
REASON_LENGTH = 500
# phases of a lock in which the server works by itself, whether the process that began it lives or not
_SERVERS_OWN = ("switching", "restoring")
_ENDED = {"rolled_back": "failed and was taken back", "removed": "failed and was removed", "failed": "failed"}
# what that means, by how a deploy or a rollback has ended
_HALF_DONE = {
    "rolled_back": "The release before it serves, not the one that was meant to.",
    "removed": "It was the first one: nothing serves.",
    "failed": "What runs is not what was meant to run, or is not proven.",
}


def k3s(seen: Seen) -> list[Finding]:
    """k3s by the recovery's own diagnosis."""
    told = seen["k3s"]
    why = "No execution can run: each ends as failed. Login, pages and the API go on."
    look, heal = seen.play(RECOVER, "--check"), seen.play(RECOVER)
    if told["refusal"]:
        cure = look if told["installed"] else seen.play("playbooks/site.yml", "--tags k3s")
        return [Finding("k3s", "problem", told["refusal"].replace(" Nothing has been changed.", ""), why, cure)]
    found = []
    for one in told["causes"]:
        cure = f"{one['cure']}. Whether that was all, says: {look}" if one["cure"] else heal
        found.append(Finding("k3s", "problem", one["sentence"], why, cure, one["id"], one["evidence"][:4]))
    if not found and not told["healthy"]:
        text = f"k3s does not work{': ' + told['api_problem'] if told['api_problem'] else ', or was started just now'}."
        found.append(Finding("k3s", "problem", text, why, heal))
    found += [Finding("k3s", "warning", one, "k3s works now.", look) for one in told["warnings"]]
    return found or [Finding("k3s", "ok", f"k3s {told['version']} works; its node has {told['expected_ip']}.")]


def vpn(seen: Seen) -> list[Finding]:
    """VPNs and networks that are in each other's way."""
    why = "Replies to users may go into the VPN, containers may lose their way, and k3s may take the VPN's address."
    cure = (
        "with NordVPN, on the server `nordvpn set lan-discovery enabled`; else leave the LAN and the cluster's "
        "networks out of the VPN's AllowedIPs. Pin k3s_node_ip in the inventory, then: "
        f"{seen.play('playbooks/site.yml', '--tags k3s')}"
    )
    found = [Finding("vpn", "warning", one, why, cure) for one in seen["k3s"]["network"]]
    return found or [Finding("vpn", "ok", "No VPN and no other network is in the way.")]


_FIREWALL_CURES = {
    "ufw": "as root on the server: ufw allow in on br-integr8scode to any port {port} proto tcp",
    "firewalld": "as root on the server: firewall-cmd --permanent --zone=trusted --add-interface=br-integr8scode && "
    "firewall-cmd --reload",
}


def _unreachable(seen: Seen, told: dict[str, Any]) -> Finding:
    why = "k8s-worker and pod-monitor run on and look well, but every execution ends as failed."
    port, gateway, reached = told["port"], told["gateway"], told["reached"]
    if told["host"] != "open":
        text = f"The Kubernetes API does not answer on this server (port {port}: {told['host']})."
        return Finding("kubernetes_access", "problem", text, why, f"see the check k3s; then: {seen.play(RECOVER)}")
    if gateway != told["bridge_gateway"] and told["bridge_gateway"]:
        text = (
            f"Containers call {gateway} for host.docker.internal, but Docker's bridge has {told['bridge_gateway']} "
            "now: it has moved since they were made."
        )
        cure = (
            f"`{seen.play('playbooks/site.yml', '--tags docker')}` pins it (docker_bridge_address); then as root on "
            f"the server: cd {seen.current} && docker compose up -d --force-recreate k8s-worker pod-monitor"
        )
        return Finding("kubernetes_access", "problem", text, why, cure)
    if reached == "refused":
        text = (
            f"From inside the stack's network {gateway}:{port} refuses the connection, on the server itself it is open."
        )
        cure = f"k3s has a bind-address that leaves Docker's bridge out. Where, says: {seen.play(RECOVER, '--check')}"
        return Finding("kubernetes_access", "problem", text, why, cure)
    firewalls = seen.answers.get("firewalls")
    names = list(firewalls.value or []) if firewalls else []
    active = f" ({', '.join(names)})" if names else ""
    text = (
        f"From inside the stack's network {gateway}:{port} cannot be reached ({reached}), on the server itself it is "
        f"open: a firewall drops what comes from the bridge br-integr8scode{active}."
    )
    cure = next((_FIREWALL_CURES[one] for one in names if one in _FIREWALL_CURES), "")
    cure = cure or (
        "as root on the server, `nft list ruleset | grep -n -B3 -A3 drop` shows the rule; put before it: "
        "iifname br-integr8scode tcp dport {port} accept"
    )
    return Finding("kubernetes_access", "problem", text, why, cure.replace("{port}", str(port)))


def kubernetes_access(seen: Seen) -> list[Finding]:
    """Whether the workers reach the Kubernetes API from where they are, with the tokens that they have."""
    down = docker_is_down(seen, "kubernetes_access")
    if down:
        return down
    told = seen["inside"]
    if told["reached"] != "open":
        return [_unreachable(seen, told)]
    found = []
    why = "The worker runs on and looks well, but every execution ends as failed."
    renew = seen.play("playbooks/renew-kubeconfig.yml")
    for worker, answer in told["kubernetes"].items():
        if answer["status"] in (200, 403):
            continue
        if answer["status"] == 401:
            text = f"The Kubernetes API does not accept the token of {worker} (401)."
            cure = f"{renew} -e renew_force=true"
        elif answer["kind"] == "tls":
            text = f"{worker} cannot trust the Kubernetes API: {answer['problem']}."
            cure = (
                f"`{renew}`; if that does not help: {seen.play('playbooks/site.yml', '--tags k3s,kubernetes_access')}"
            )
        elif answer["kind"] == "kubeconfig":
            text, cure = f"The kubeconfig of {worker} cannot be used: {answer['problem']}.", renew
        else:
            text = f"The Kubernetes API answers {worker} with {answer['status'] or answer['problem']}."
            cure = f"see the check k3s; then: {seen.play(RECOVER, '--check')}"
        found.append(Finding("kubernetes_access", "problem", text, why, cure, worker))
    return found or [Finding("kubernetes_access", "ok", "Both workers reach the Kubernetes API from inside the stack.")]


def stack_dns(seen: Seen) -> list[Finding]:
    """Names and neighbours inside the stack's network."""
    down = docker_is_down(seen, "stack_dns")
    if down:
        return down
    told = seen["inside"]
    bad = {name: why for name, why in told["dns"].items() if why}
    deaf = {name: why for name, why in told["neighbours"].items() if why != "open"}
    why = "The programs find each other by these names."
    cure = "as root on the server (containers live on): systemctl restart docker; docker network inspect integr8scode"
    if bad:
        text = "; ".join(f"{name}: {problem}" for name, problem in bad.items())
        text = f"Names that Docker's DNS does not resolve inside the stack's network: {text}."
        return [Finding("stack_dns", "problem", text, why, cure)]
    if deaf:
        text = "; ".join(f"{name}: {problem}" for name, problem in deaf.items())
        text = f"From {told['from']}, neighbours in the stack's network do not answer: {text}."
        cure = "see that service's check; if it is well, a firewall is between, as root on the server: nft list ruleset"
        return [Finding("stack_dns", "problem", text, why, cure)]
    return [Finding("stack_dns", "ok", "The names of the stack are resolved inside its network.")]


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def certificates(seen: Seen) -> list[Finding]:
    """Whether each certificate is valid, names the server, and is the one that is served."""
    told = seen["trust"]
    site = seen.site
    found = []
    for kind, one in told["certificates"].items():
        if one["problem"]:
            text = f"The certificate {one['path']} cannot be used: {one['problem']}."
            found.append(Finding("certificates", "problem", text, "TLS fails where it is used.", site, kind))
            continue
        days = (one["not_after"] - seen.now) / DAY
        if one["not_before"] > seen.now + 60:
            text = f"The {kind} certificate is valid only from {_day(one['not_before'])} on."
            why = "Clients refuse it until then: the clock was wrong when it was made, or is now."
            found.append(Finding("certificates", "problem", text, why, f"see the check clock; then: {site}", kind))
        elif days < 0:
            why = "Browsers and clients refuse the connection."
            text = f"The {kind} certificate has ended on {_day(one['not_after'])}."
            found.append(Finding("certificates", "problem", text, why, site, kind))
        elif days < CERTIFICATE_DAYS:
            text = f"The {kind} certificate ends in {days:.0f} days ({_day(one['not_after'])})."
            why = (
                "Then browsers and clients refuse the connection. One of your own comes from the vault: renew it there."
            )
            found.append(Finding("certificates", "warning", text, why, site, kind))
    if told["missing_names"]:
        text = f"The public certificate does not name {', '.join(told['missing_names'])}."
        why = "Browsers warn of it, clients refuse it."
        cure = f"if it is one of your own (integr8scode_tls_certificate), have one issued for these names; then: {site}"
        found.append(Finding("certificates", "problem", text, why, cure, "names"))
    own = told["certificates"]["public"].get("fingerprint")
    if told["served"] and own and told["served"] != own:
        text = "The edge still shows another certificate than the one on disk."
        why = "It was renewed, and the edge has not read it: the old one will end."
        cure = f"as root on the server: cd {seen.current} && docker compose kill -s SIGUSR2 edge"
        found.append(Finding("certificates", "warning", text, why, cure, "served"))
    return found or [Finding("certificates", "ok", "All certificates are valid and name the server.")]


def _renewed_days(life: float) -> float:
    """Days left of a token's life (seconds) when the timer, which looks once a day, has to have renewed it."""
    return (life / 3 - min(DAY, life / 10)) / DAY


def tokens(seen: Seen) -> list[Finding]:
    """How long the workers' tokens last."""
    found, least = [], 1e9
    renew = seen.play("playbooks/renew-kubeconfig.yml")
    for worker, one in seen["tokens"].items():
        why = f"Without it {worker} cannot reach Kubernetes: every execution ends as failed."
        if one["problem"]:
            text = f"The kubeconfig {one['path']} cannot be used: {one['problem']}."
            found.append(Finding("tokens", "problem", text, why, renew, worker))
            continue
        days = (one["expires"] - seen.now) / DAY
        least = min(least, days)
        if days < 0:
            text = f"The token of {worker} has ended on {_day(one['expires'])}."
            found.append(Finding("tokens", "problem", text, why, renew, worker))
        elif days < min(TOKEN_DAYS, _renewed_days(one["expires"] - one["issued"])):
            text = f"The token of {worker} ends in {days:.1f} days: the timer that renews it does not do so."
            cure = f"`systemctl status integr8scode-renew-kubeconfig.timer` on the server tells why; then: {renew}"
            found.append(Finding("tokens", "warning", text, why, cure, worker))
    return found or [Finding("tokens", "ok", f"The workers' tokens last {least:.0f} days or longer.")]


def lock(seen: Seen) -> list[Finding]:
    """Whether somebody holds the server, and is still there."""
    owner = seen["records"]["lock"]
    if owner is None:
        return [Finding("lock", "ok", "Nobody holds the lock.")]
    unlock = seen.play("playbooks/unlock.yml", f"-e unlock_confirm={seen.host}")
    if not owner.get("run"):
        text = "The lock's owner.json is there but cannot be read."
        return [Finding("lock", "problem", text, "Every deploy to this server is refused.", unlock)]
    unit = seen["units"]["units"].get("integr8scode-switch.service", {})
    working = unit.get("ActiveState") in ("active", "activating", "deactivating")
    silent = max(0.0, seen.now - float(owner.get("heartbeat") or 0))
    who = f"{owner.get('action', 'work')} {owner.get('what', '')} by {owner.get('by', 'somebody')}".replace("  ", " ")
    text = f"The lock is held since {owner.get('since', 'some time')}: {who}, phase {owner.get('phase', '?')}"
    if working:
        why = "Findings about containers may pass by themselves: they are being replaced."
        return [
            Finding(
                "lock",
                "warning",
                f"{text}; it is at work.",
                why,
                f"wait for it; how far it is, shows: {seen.play('playbooks/status.yml')}",
            )
        ]
    if owner.get("phase") == "switching" or silent > LEASE_SECONDS:
        why = "Its run has ended without a word (killed, or the server was restarted); work may be half done."
        cure = f"deploy again, which finishes or undoes it. To only take the lock away: {unlock}"
        if owner.get("action") == "restore":
            cure = f"run the restore again: its data may be incomplete. To only take the lock away: {unlock}"
        return [
            Finding("lock", "problem", f"{text}; nothing was heard of it for {silent / 60:.0f} minutes.", why, cure)
        ]
    if owner["run"] == seen.settings.get("gone_run") and owner.get("phase") not in _SERVERS_OWN:
        # as the next run will see it, which takes the lock over
        text = f"{text}; that run is over: its process has ended."
        if owner.get("action") == "restore":
            why = "The restore did not end: the data may be incomplete."
            return [Finding("lock", "problem", text, why, "run the restore again: it takes the lock over by itself")]
        why = "It was broken off while it prepared: what serves was not touched."
        return [Finding("lock", "warning", text, why, "deploy again: it takes the lock over by itself")]
    doing = "A restore is at work" if owner.get("action") == "restore" else "A deploy is being prepared"
    why = f"{doing}; another run is refused meanwhile."
    return [Finding("lock", "warning", f"{text}; last heard {silent:.0f} s ago.", why, "wait for it to end")]


def _release_tag(release: str) -> str:
    """The tag of a release's id: `2026.2.20` of `2026.2.20-0c7a128ba328`."""
    return re.sub(r"-[0-9a-f]{12}$", "", release)


def _again(seen: Seen, entry: dict[str, Any]) -> str:
    """The command that does the work of an entry again; '' where there is none."""
    release = _release_tag(str(entry.get("release") or ""))
    action = str(entry.get("action"))
    if action == "deploy":
        return seen.play("deploy.yml", f"-e tag={release}") if release else ""
    if action == "rollback":
        return seen.play("playbooks/rollback.yml", f"-e to={release}" if release else "")
    playbook = {"backup": "playbooks/backup.yml", "recover-k3s": RECOVER}.get(action)
    return seen.play(playbook) if playbook else ""


def history(seen: Seen) -> list[Finding]:
    """The newest entry of each kind of work: did it end well?"""
    last: dict[str, dict[str, Any]] = {}
    for entry in seen["records"]["history"]:
        # a deploy or a rollback that went well makes good the ones before it
        kind = "deploy" if entry.get("action") in ("deploy", "rollback") else str(entry.get("action"))
        last[kind] = entry
    found = []
    for kind, entry in last.items():
        result = str(entry.get("result"))
        if result in _WELL:
            continue
        action = str(entry.get("action", kind))
        what = f"{action} {entry.get('release') or entry.get('rung') or ''}".strip()
        # what follows the first line is the log of who failed
        reason = str(entry.get("cause") or entry.get("message") or "").strip().partition("\n")[0][:REASON_LENGTH]
        text = f"The last {what} ({entry.get('at', '?')}, by {entry.get('by') or 'somebody'}) "
        text += f"{_ENDED.get(result, f'ended as {result}')}{': ' + reason.rstrip('.') if reason else ''}."
        why = _HALF_DONE.get(result if kind == "deploy" else "", "It was not done.")
        again = _again(seen, entry)
        cure = f"cure the cause, then: {again}" if again else "cure the cause and do it again"
        if known := matches([reason]):
            cure = filled(known[0], seen, again)
        status = "warning" if result == "rolled_back" or kind == "backup" else "problem"
        found.append(Finding("history", status, text, why, cure, action))
    return found or [
        Finding("history", "ok", "The last work of each kind ended well." if last else "Nothing was done yet.")
    ]


def jobs(seen: Seen) -> list[Finding]:
    """The server's own timers: backups and renewals."""
    found = []
    units = seen["units"]["units"]
    for job, play in (("backup", "playbooks/backup.yml"), ("renew-kubeconfig", "playbooks/renew-kubeconfig.yml")):
        timer = units.get(f"integr8scode-{job}.timer", {})
        if timer.get("LoadState") == "loaded" and timer.get("ActiveState") != "active":
            text = f"integr8scode-{job}.timer is {timer.get('ActiveState')}."
            cure = f"as root on the server: systemctl enable --now integr8scode-{job}.timer"
            found.append(Finding("jobs", "problem", text, f"Nothing starts the {job} any more.", cure, job))
        state = seen["records"]["jobs"].get(job) or {}
        if state.get("result") == "failed":
            text = f"The last {job} ({state.get('at', '?')}) failed: {state.get('message') or 'no reason given'}."
            why = f"Last success: {state.get('last_success') or 'never'}."
            found.append(Finding("jobs", "problem", text, why, f"cure the cause, then: {seen.play(play)}", job))
    for kind, moment in seen["records"]["backups"].items():
        days = (seen.now - moment) / DAY
        if days > BACKUP_DAYS and units.get("integr8scode-backup.timer", {}).get("LoadState") == "loaded":
            text = f"The newest backup of {kind} is {days:.0f} days old."
            why = "What happened since is lost with the disk."
            found.append(Finding("jobs", "warning", text, why, seen.play("playbooks/backup.yml"), kind))
    return found or [Finding("jobs", "ok", "Backups and renewals do their work.")]
