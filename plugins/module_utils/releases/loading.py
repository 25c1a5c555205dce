"""Files that running programs have to load again: the edge's configuration, certificates, kubeconfigs."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.releases.containers import Stack, patiently
from ansible.module_utils.releases.edge import Edge, EdgeError
from ansible.module_utils.releases.layout import Layout
from ansible.module_utils.stale_readers import Readers

MARKS = Path("/run/integr8scode")
"""What was loaded when, for programs that do not tell."""


class Loading:
    """What the running programs have loaded, beside what there is.

    layout: where things are.
    stack: the containers.
    edge: the running edge.
    """

    def __init__(self, layout: Layout, stack: Stack, edge: Edge) -> None:
        self.layout, self.stack, self.edge = layout, stack, edge
        # its configuration was written and not loaded yet, whatever the clock says
        self.edge_unloaded = False

    def load(self, *, check: bool) -> dict[str, bool]:
        """Have running programs load files that are newer than they are. Which had to, by service.

        Not the backend, see `outdated_backends`.

        :param check: whether to say it only.
        :raises FileNotFoundError: such a file is missing.
        :raises EdgeError: the edge does not load them.
        """
        readers = self._readers(check=check)
        tls, edge = self.layout.tls, self.layout.edge
        loaded = {
            "edge": self._load_edge(readers, [edge, tls / "public", tls / "internal/edge"], check=check),
            "frontend": readers.reload("frontend", "SIGHUP", [tls / "internal/frontend"]),
        }
        for worker in ("k8s-worker", "pod-monitor"):
            kubeconfig = self.layout.base / "kubeconfig" / f"{worker}.yaml"
            loaded[worker] = kubeconfig.exists() and readers.restart(worker, kubeconfig)
        return loaded

    def outdated_backends(self) -> set[str]:
        """Ids of the backends whose certificate is older than the one that is there.

        A signal would do, but gunicorn then ends its workers while the new ones are still loading the application,
        which takes them half a minute: nobody would be served. A second copy takes over instead.
        """
        found = self._readers(check=True).outdated("backend", [self.layout.tls / "internal/backend"])
        return {one.id for one in found}

    def _readers(self, *, check: bool) -> Readers:
        return Readers(patiently(lambda: self.stack.client), self.stack.project, MARKS, check_mode=check)

    def _load_edge(self, readers: Readers, folders: list[Path], *, check: bool) -> bool:
        if check or not self.stack.of("edge"):
            return readers.reload("edge", "SIGUSR2", folders)
        before = self.edge.worker()
        self.edge.remember_servers()
        try:
            due = readers.reload("edge", "SIGUSR2", folders, all_of_it=self.edge_unloaded)
            if due:
                self.edge.wait_reloaded(before)
                self.edge_unloaded = False
        except EdgeError:
            # not loaded: the next run has to try again
            (MARKS / "edge.loaded").unlink(missing_ok=True)
            raise
        finally:
            self.edge.forget_servers()
        return due
