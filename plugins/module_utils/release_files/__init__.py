"""The parts of a release on a server, each planned before one of them is written: the module of the same name."""
