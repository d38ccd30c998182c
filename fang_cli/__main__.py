"""Starts the command ``fang``. It imports nothing that takes time before a Ctrl-C ends the command in one line."""

import sys


def main() -> None:
    """Runs the command."""
    try:
        from fang_cli.starting import start

        start()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
