"""The command behind the three targets of the Makefile."""

import argparse
from collections.abc import Callable

from benchmarks import compare, quick, situations
from benchmarks.scenarios import SCENARIOS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    programs: dict[str, Callable[..., None]] = {"compare": compare.main, "all": situations.main, "quick": quick.main}
    commands = parser.add_subparsers(dest="command", required=True)

    bench = commands.add_parser("compare", help="ours beside others from PyPI")
    bench.add_argument("--rounds", type=int, default=5)
    bench.add_argument("--scale", type=float, default=1.0, help="of the numbers of tasks")
    bench.add_argument("--only", nargs="+", default=[], help="systems whose names contain one of these")
    bench.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")

    alone = commands.add_parser("all", help="ours in many situations")
    alone.add_argument("--only", nargs="+", default=[], choices=SCENARIOS, help="these scenarios")
    alone.add_argument("--scale", type=float, default=1.0, help="of the numbers of tasks")
    alone.add_argument("--huge", action="store_true", help="a backlog of ten million as well")
    alone.add_argument("--write", action="store_true", help="put the tables into docs/benchmarks.md")

    change = commands.add_parser("quick", help="the working tree beside another commit")
    change.add_argument("ref", help="a commit, branch or tag")
    change.add_argument("--rounds", type=int, default=5)

    options = vars(parser.parse_args())
    programs[options.pop("command")](**options)


if __name__ == "__main__":
    main()
