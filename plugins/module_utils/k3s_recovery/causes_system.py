"""Causes outside of k3s: the disk, the kernel, other programs, files that k3s refuses. A person has to act on most."""

from __future__ import annotations

from collections.abc import Iterator

from ansible.module_utils.k3s_recovery import journal
from ansible.module_utils.k3s_recovery.cause import RECOVER, Cause, View, listed
from ansible.module_utils.k3s_recovery.facts import full

# signature -> cause, sentence, cure
SIMPLE = {
    "cgroup_v1": (
        "cgroup_v1", "This release of k3s does not start on cgroup v1, which this server has.",
        "boot with cgroup v2 (systemd.unified_cgroup_hierarchy=1), or set kubelet-arg: [fail-cgroupv1=false]",
    ),
    "cgroup_missing": (
        "cgroup_missing", "The kernel lacks a cgroup controller that k3s needs.",
        "add cgroup_memory=1 cgroup_enable=memory to the kernel's command line and reboot",
    ),
    "too_many_files": (
        "too_many_files", "k3s has reached a limit of open files or of inotify watches.",
        "sysctl -w fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=524288 (role k3s sets them)",
    ),
    "oom": (
        "out_of_memory", "The kernel killed k3s because this server ran out of memory.",
        "free memory or add some; journalctl -k -g oom names what was large",
    ),
    "permission": ("permission", "k3s may not read a file that it needs.", "chown root:root FILE; chmod 600 FILE"),
    "iptables": ("iptables_missing", "k3s finds no iptables or may not use them.", "apt-get install iptables"),
    "kernel_module": (
        "kernel_module", "A kernel module that k3s needs is missing.",
        "modprobe br_netfilter overlay; after a kernel update, reboot into it",
    ),
    "read_only": (
        "read_only", "A file system is mounted read-only: often the kernel's answer to a failing disk.",
        "dmesg shows why; repair (fsck) or replace the disk, then mount it again to write",
    ),
}  # fmt: skip


def check(view: View) -> Iterator[Cause]:
    """Every cause of this kind."""
    if view.facts.safe_mode:
        yield _safe_mode(view)
    yield from _configuration(view)
    if view.well:
        return
    yield from _binary(view)
    yield from _disk(view)
    yield from _port(view)
    for name, (cause, sentence, cure) in SIMPLE.items():
        match = view.matches.get(name)
        if match is not None:
            named = f" ({match.values['path']})" if "path" in match.values else ""
            yield Cause(cause, sentence.removesuffix(".") + named + ".", [match.line], "", cure)
    read_only = [one.path for one in view.facts.disks if one.read_only]
    if read_only and not view.line("read_only"):
        _cause, sentence, cure = SIMPLE["read_only"]
        yield Cause("read_only", sentence, [f"read-only: {listed(read_only)}"], "", cure)
    if view.facts.unit.masked:
        yield Cause("masked", "k3s.service is masked: it cannot be started.", [], "", "systemctl unmask k3s.service")


def _safe_mode(view: View) -> Cause:
    sentence = "An earlier recovery was cut short and left k3s in safe mode: network policies are not enforced."
    return Cause("safe_mode_left_on", sentence, [], "safe_mode", details={"node": view.facts.node_name})


def _configuration(view: View) -> Iterator[Cause]:
    configuration = view.facts.configuration
    told = view.line("yaml")
    if configuration.problems and (configuration.certain or told or not view.facts.unit.running):
        place = configuration.problems[0].partition(": ")[0]
        sentence = f"k3s refuses its configuration: {listed(configuration.problems)}."
        yield Cause("configuration_unreadable", sentence, told, "", f"correct {place} by hand, then run it again")
    elif told:
        cure = f"look into {listed(configuration.files)}"
        yield Cause("configuration_unreadable", "k3s refuses its configuration, which is not YAML.", told, "", cure)
    match = view.matches.get("unknown_option")
    if match is not None:
        option = match.values.get("option") or match.values.get("last", "")
        sentence = f"k3s does not know the option {option} on its command line."
        cure = f"take it out of ExecStart in {configuration.fragment or 'the unit'}, then systemctl daemon-reload"
        yield Cause("unknown_option", sentence, [match.line], "", cure)


def _binary(view: View) -> Iterator[Cause]:
    if view.facts.binary_problem:
        sentence = f"The program k3s does not run: {view.facts.binary_problem}."
        cure = "ansible-playbook playbooks/site.yml --tags k3s installs the verified release again"
        yield Cause("binary_broken", sentence, view.line("binary"), "", cure)


def _disk(view: View) -> Iterator[Cause]:
    tight = [one for one in view.facts.disks if full(one) and not one.read_only]
    line = view.line("disk_full")
    if not tight and not line:
        return
    shown = [f"{one.path}: {one.free_bytes >> 20} MiB free, {one.free_inodes_percent:g} % of inodes" for one in tight]
    sentence = f"The disk is full ({listed([one.path for one in tight]) if tight else 'k3s could not write'})."
    cure = "make room: journalctl --vacuum-size=200M, docker builder prune, k3s crictl rmi --prune (du -xh / | sort -h)"
    yield Cause("disk_full", sentence, shown + line, "", f"{cure}; then {RECOVER}")


def _port(view: View) -> Iterator[Cause]:
    match = view.matches.get("port_taken")
    if match is None:
        return
    port = match.values.get("port", "")
    holder = view.facts.port_holder if port == str(view.facts.port) else ""
    if holder.startswith(("k3s", "kube-apiserver")):
        cure = "k3s-killall.sh ends what is left of an earlier k3s; then systemctl start k3s"
    elif holder:
        cure = f"stop {holder} or move it to another port; then systemctl start k3s"
    else:
        cure = f"stop it or move it to another port (ss -ltnp 'sport = :{port}' names it); then systemctl start k3s"
    sentence = f"Port {port} is taken by {holder or 'another program'}: k3s cannot listen on it."
    yield Cause("port_taken", sentence, [match.line], "", cure)


def fallback(view: View) -> Cause | None:
    """What is wrong when no cause is known; None when nothing is."""
    unit, node, api = view.facts.unit, view.node, view.facts.api
    if view.well:
        return None
    if not unit.running and not view.lines:
        sentence = f"k3s does not run ({unit.active}, {unit.sub}), and nothing says that it failed."
        return Cause("stopped", sentence, [view.times()], "restart")
    evidence = [view.times(), *journal.last_errors(view.lines)]
    if unit.sub.startswith("start") and unit.restarts == 0 and not any(map(journal.is_fatal, view.lines)):
        return Cause("starting", "k3s is starting and not up yet.", evidence, "restart")
    if not unit.running:
        return Cause("unknown", "k3s does not stay up, and its last words are not known here.", evidence, "restart")
    if unit.running_seconds < view.stable_seconds:
        sentence = f"k3s was started {unit.running_seconds:.0f} seconds ago and is not up yet"
        sentence += f", after {unit.restarts} restarts by systemd." if unit.restarts else "."
        return Cause("starting", sentence, evidence if unit.restarts else [view.times()], "restart")
    if api.problem:
        return Cause("unknown", f"k3s runs, but {api.problem}.", evidence, "restart")
    if node is None:
        names = listed([one.name for one in api.nodes])
        sentence = f"k3s runs without a node {view.facts.node_name} (there is: {names})."
        return Cause("node_missing", sentence, evidence, "restart")
    if not view.reported:
        sentence = "The kubelet has not reported since k3s was started: what the node says of itself is from before."
        return Cause("node_not_ready", sentence, evidence, "restart")
    return Cause("node_not_ready", f"The node is not Ready: {node.not_ready_because}.", evidence, "restart")
