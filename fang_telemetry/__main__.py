"""``python -m fang_telemetry`` prints where the Grafana dashboard and the alert rules are, one path a line."""

from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
FILES: Final = (HERE / "grafana" / "fang.json", HERE / "alerts" / "fang.yml")


def main() -> None:
    """Prints the paths."""
    for file in FILES:
        print(file)


if __name__ == "__main__":
    main()
