"""The lab: servers in containers on this machine, and everything that they pull and download.

Run it as ``python -m lab`` (see ``python -m lab --help``); ``make lab`` and Molecule call it.
"""
