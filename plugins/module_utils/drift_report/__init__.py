"""A drift report for people and machines: table, HTML page, Prometheus metrics, notification of what changed."""
