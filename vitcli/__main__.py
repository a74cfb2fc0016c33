"""Entry point of ``vit``, of ``python -m vitcli`` and of ``torchrun -m vitcli``."""

import os
import sys


def run() -> None:
    """Import the command line and run it; Ctrl-C before it is there ends in the same words as later."""
    try:
        from vitcli.cli.app import run as run_app

        run_app()
    except KeyboardInterrupt:
        if sys.stderr and os.environ.get("RANK", "0") == "0":
            sys.stderr.write("stopped by Ctrl-C\n")
            sys.stderr.flush()
        os._exit(130)  # of an interrupt within `exec`, as of a dataclass, Python would make another exit code


if __name__ == "__main__":
    run()
