"""How long the real program takes before it says anything: it imports for 20 s what this stand-in does not have."""

import os
import time


def imitate_imports(seconds: float) -> None:
    """Wait as long as the real program's imports would take on a fast machine, using no processor.

    Args:
        seconds: the wait, unless the environment's LAB_START_SECONDS (a number of seconds) says another. The variable
            exists for tests of the lab only: the real program has nothing of the kind.

    Raises:
        ValueError: LAB_START_SECONDS is no number.
    """
    time.sleep(float(os.environ.get("LAB_START_SECONDS") or seconds))
