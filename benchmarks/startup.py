"""Start-up time of the programs and imports, compared with Python itself."""

import subprocess
import sys
import time

PROGRAMS = ("train", "evaluate", "predict", "compare", "cost", "doctor")
IMPORTS = ("tensorflow", "keras", "mmkeras.training.steps")


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    code = subprocess.run([sys.executable, *arguments], **quiet).returncode
    assert code == (2 if "--no-such-flag" in arguments else 0), (arguments, code)
    return time.perf_counter() - start


def main() -> None:
    python_s = min(seconds("-c", "pass") for _ in range(5))
    commands = {
        f"python -m mmkeras.{program} {flag}": ("-m", f"mmkeras.{program}", flag)
        for program in PROGRAMS
        for flag in ("--help", "--no-such-flag")
    }
    commands |= {f"import {name}": ("-c", f"import {name}") for name in IMPORTS}
    for name, arguments in commands.items():
        best_s = min(seconds(*arguments) for _ in range(5))
        ratio = f"{best_s / python_s:.0f} times Python alone ({python_s:.2f} s)"
        print(f"{name}: {best_s:.2f} s, {ratio}", flush=True)


if __name__ == "__main__":
    main()
