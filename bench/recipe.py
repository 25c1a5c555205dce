"""What the application's own deployment guide says to do when k3s crash-loops after a change of address."""

RECIPE = (
    "sudo systemctl stop k3s",
    "sudo rm -rf /var/lib/rancher/k3s/server/db/",
    "sudo rm -rf /var/lib/rancher/k3s/server/tls/",
    "sudo systemctl start k3s",
)
"""Its four commands, as they stand there ("k3s crash loop after VPN or IP change")."""

GUIDE_BACKUP = "sudo k3s etcd-snapshot save"
"""What it says to do before. With SQLite, which is what a single server has, k3s refuses it."""
