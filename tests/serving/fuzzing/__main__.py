"""Command line of the fuzzer: `python -m tests.serving.fuzzing --inputs 120000`."""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace


def main() -> int:
    """Sends the inputs, prints a table, and returns 1 if there are findings."""
    parser = argparse.ArgumentParser(prog="python -m tests.serving.fuzzing")
    parser.add_argument("--inputs", type=int, default=20_000, help="Approximate number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--export", type=Path, help="Base path of an mmkeras model")
    parser.add_argument("--only", choices=("in-process", "protocols"))
    parser.add_argument("--batches", choices=("with", "without"), help="Default: both")
    flags = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from tests.serving.fuzzing import in_process, models, oracle, protocols
    from tests.table_factory import trained_run

    report = oracle.Report()
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        export = flags.export
        if export is None:
            run, _ = trained_run(SimpleNamespace(getbasetemp=lambda: base))
            export = run / "export"
        paths = {models.NAME: models.save(base / models.NAME), "mmkeras": export}
        print("| phase | inputs | s | RSS, MiB | results |\n|---|---|---|---|---|")
        servers = {"without": None, "with": base / "batching"}
        servers["with"].write_text(protocols.BATCHING)
        if flags.batches:
            servers = {flags.batches: servers[flags.batches]}
        half = flags.inputs / len(servers)
        for i, batching in enumerate(servers.values()):
            if flags.only != "protocols":
                in_process.run(
                    report, paths, base / f"r{i}", half, flags.seed + i, batching
                )
            if flags.only != "in-process":
                protocols.run(report, paths, base, half, flags.seed + i, batching)
    print(f"\n{report.inputs} inputs, {len(report.findings)} findings")
    print(*report.findings, sep="\n")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
