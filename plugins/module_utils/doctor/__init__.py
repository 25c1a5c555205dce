"""What is wrong with a server, by the guide's table of troubles and more: probes ask, judges tell what it means."""
