"""What the lab's `k3s` file runs on a server: needs Python 3.11 or newer and nothing else there.

Its modules are packed into the file by `lab/k3s/build.py`. Only `pki` and `bootstrap` need a library with compiled
parts (cryptography); they are imported after the file has unpacked itself.
"""
