"""The command: `python -m delta_dct`, and `delta-dct` where the package is installed."""

import os
import sys

from ._delta_dct import run_command


def main() -> int:
    """Runs the command line of this process; gives the exit code."""
    # Where this is not set, commands that run models begin their program again with it, and that would be the interpreter.
    os.environ.setdefault("CANDLE_NUM_THREADS", "1")
    return run_command(["delta-dct", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
