"""Seconds until `--help` answers, against starting Python alone."""

import subprocess
import sys
import time

PROGRAMS = ("train", "evaluate", "predict", "compare", "cost", "doctor")


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    alone = min(seconds("-c", "pass") for _ in range(5))
    for program in PROGRAMS:
        best = min(seconds("-m", f"mmkeras.{program}", "--help") for _ in range(5))
        print(
            f"python -m mmkeras.{program} --help: {best:.2f} s, "
            f"{best / alone:.0f} times Python alone ({alone:.2f} s)"
        )


if __name__ == "__main__":
    main()
