"""The command ``fang``."""

import sys


def main() -> None:
    """Runs the command; without its libraries it says in one line what to install."""
    try:
        from fang_cli.commands import fang
    except ModuleNotFoundError as error:
        sys.exit(f"fang: {error.name} is missing: pip install 'fang-tasks[cli]'")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    fang(prog_name="fang")


if __name__ == "__main__":
    main()
