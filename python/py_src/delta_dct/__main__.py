"""The command: `python -m delta_dct`, and `delta-dct` where the package is installed."""

import sys

from ._delta_dct import run_command


def main() -> int:
    """Runs the command line of this process; gives the exit code."""
    return run_command(["delta-dct", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
