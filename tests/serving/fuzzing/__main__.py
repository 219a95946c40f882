"""The program: `python -m tests.serving.fuzzing --inputs 120000`."""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace


def main() -> int:
    """Sends the inputs, prints a table, and returns 1 where there are findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.serving.fuzzing")
    parser.add_argument("--inputs", type=int, default=20_000, help="About how many.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, help="Base path of a model of mmkeras.")
    parser.add_argument("--only", choices=("inside", "wires"))
    parser.add_argument("--batches", choices=("with", "without"), help="Else both.")
    given = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tests.serving.fuzzing import inside, models, verdict, wires
    from tests.table_factory import trained_run

    tally = verdict.Tally()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        export = given.export
        if export is None:
            run, _ = trained_run(SimpleNamespace(getbasetemp=lambda: base))
            export = run / "export"
        paths = {models.NAME: models.save(base / models.NAME), "mmkeras": export}
        print("| phase | inputs | s | RSS, MiB | results |\n|---|---|---|---|---|")
        servers = {"without": None, "with": inside.BATCHING}
        if given.batches:
            servers = {given.batches: servers[given.batches]}
        half = given.inputs / len(servers)
        for i, batching in enumerate(servers.values()):
            if given.only != "wires":
                inside.run(tally, paths, base / f"r{i}", half, given.seed + i, batching)
            if given.only != "inside":
                wires.run(tally, paths, base, half, given.seed + i, bool(batching))
    total = sum(phase.inputs for phase in tally.phases)
    print(f"\n{total} inputs, {len(tally.findings)} findings")
    print(*tally.findings, sep="\n")
    return 1 if tally.findings else 0


if __name__ == "__main__":
    sys.exit(main())
