"""Warnings of an ingested data set: rows and columns that a user may not expect."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mmkeras.config import Config
from mmkeras.data.ingest_plan import BadRow, IngestPlan
from mmkeras.data.shards import ShardSummary, bad_rows
from mmkeras.errors import Examples, format_names, shorten, warn_of_faults
from mmkeras.modalities.columns import build_columns
from mmkeras.schema import LABEL_SEPARATOR, TEST, TRAIN, VAL, WARNINGS_FILE

_IN_FILE = f" in {WARNINGS_FILE}"
_REPEATED = "The same content is in different splits, so the test is too easy"


def suspicious_rows(summaries: Sequence[ShardSummary]) -> dict[str, list[BadRow]]:
    """Returns kind -> usable rows that a warning is about."""
    warned = [
        BadRow(**row)
        for summary in summaries
        for kinds in summary.warned.values()
        for rows in kinds.values()
        for row in rows
    ]
    return {
        "repeated": _duplicates(summaries),
        "warned": sorted(warned, key=lambda row: row.line),
        "faulty": bad_rows(summaries, "faulty"),
    }


def warn_of_suspicious(
    suspicious: Mapping[str, Sequence[BadRow]],
    summaries: Sequence[ShardSummary],
    config: Config,
) -> list[str]:
    """Warns of the rows of `suspicious_rows`."""
    repeats = [row.problem for row in suspicious["repeated"]]
    faults = [f"{row.place}: {row.problem}" for row in suspicious["faulty"]]
    warnings = _warn_of_rows(_REPEATED, repeats)
    for column in build_columns(config):
        for kind, fault in column.warnings.items():
            rows = [
                BadRow(**row)
                for summary in summaries
                for row in summary.warned.get(column.name, {}).get(kind, ())
            ]
            rows.sort(key=lambda row: row.line)
            warnings += _warn_of_ids(column.name, fault, rows)
    return [*warnings, *warn_of_faults(Examples(faults), _IN_FILE)]


def warn_of_columns(plan: IngestPlan, summaries: Sequence[ShardSummary]) -> list[str]:
    """Warns of columns that are empty or the same in all rows or training rows."""
    warnings = []
    train = [summary for summary in summaries if summary.split == TRAIN]
    subsets = [("rows", summaries), ("training rows", train)]
    for column in plan.columns:
        others = ",".join(name for name in plan.columns if name != column)
        hint = f"; train with --table.modalities {others} to leave it out"
        hint = hint if others and train else ""
        fault = ""
        for kind, subset in subsets:
            absent = sum(summary.absent.get(column, 0) for summary in subset)
            unreadable = sum(summary.broken.get(column, 0) for summary in subset)
            rows = sum(summary.rows for summary in subset) - absent
            contents = {c for s in subset for c in s.contents.get(column, ())}
            if unreadable and not rows:
                cells = f"{unreadable} cells in {absent} {kind}"
                fault, hint = f"has {cells}, and none can be read", ""
            elif absent and not rows:
                fault = f"is empty in all {absent} {kind}"
            elif train and rows > 1 and len(contents) == 1:
                fault = f"has the same content in all {rows} {kind} that have it"
            if fault:
                warnings.append(f"Column '{column}' {fault}{hint}.")
                break
    return warnings


def warn_unlearned(labels: Mapping[str, Iterable[str]]) -> list[str]:
    """Warns of classes that no training row has; `labels` are those of each split."""
    names = {split: class_names(rows) for split, rows in labels.items()}
    if not names[TRAIN]:  # a table to evaluate has no training rows
        return []
    unknown = sorted((names[VAL] | names[TEST]) - names[TRAIN])
    warning = f"No training row has {format_names(unknown)}, so it cannot be learned."
    return [warning] if unknown else []


def class_names(labels: Iterable[str]) -> set[str]:
    """Returns the classes in labels of rows, which "|" joins."""
    return {name for label in labels for name in label.split(LABEL_SEPARATOR)} - {""}


def _duplicates(summaries: Iterable[ShardSummary]) -> list[BadRow]:
    """Returns rows with the image, audio or vector of a row in another split."""
    first: dict[tuple[str, str], tuple[str, int]] = {}
    rows = []
    for summary in summaries:
        for modality, pairs in summary.digests.items():
            for line, row_id, digest in pairs:
                split, first_line = first.setdefault(
                    (modality, digest), (summary.split, line)
                )
                if split != summary.split:
                    bad = BadRow(line=line, id=row_id, problem="", unit=summary.unit)
                    problem = f"{modality} of {bad.unit} {first_line} ({split}) and of "
                    problem += f"{bad.place} ({summary.split})"
                    rows.append(replace(bad, problem=problem))
    return sorted(rows, key=lambda row: (row.line, row.problem))


def _warn_of_ids(column, fault, rows) -> list[str]:
    if not rows:
        return []
    cells = f"{len(rows)} cells" if len(rows) > 1 else "one cell"
    names = [f"id '{shorten(row.id, 20)}'" for row in rows]
    return _warn_of_rows(f"Column '{column}' has {cells} {fault}", names)


def _warn_of_rows(text: str, names: Sequence[str]) -> list[str]:
    """Returns a warning with the names of the first rows, or [] without a row.

    Example:
        _warn_of_rows("Silent", ["id 'r1'", "id 'r4'", "id 'r7'"])
        # ["Silent: id 'r1', id 'r4', and 1 more in warnings.csv."]
    """
    return [f"{text}: {Examples(names)}{_IN_FILE}."] if names else []
