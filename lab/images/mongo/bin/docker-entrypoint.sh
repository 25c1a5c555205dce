#!/usr/bin/python3 -I
# The real image's path and name; see standin/entrypoint.py.
import sys

sys.path.insert(0, "/usr/local/lib/mongo-standin")
from standin.entrypoint import main

main()
