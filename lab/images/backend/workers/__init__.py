"""The seven workers, one script each, started as `python workers/run_<name>.py`."""
