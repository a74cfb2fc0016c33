"""Entry point of ``python -m vitcli`` and of ``torchrun -m vitcli``."""

from vitcli.cli.app import run

if __name__ == "__main__":
    run()
