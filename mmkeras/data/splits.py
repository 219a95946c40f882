"""Division of rows into train, val and test, or into folds."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from mmkeras.config import TableConfig
from mmkeras.config.validation import AUTO
from mmkeras.data.labels import warn_lists, warn_lookalikes
from mmkeras.data.table import Row
from mmkeras.data.targets import LABEL_KINDS, check_task
from mmkeras.errors import UserError, format_names
from mmkeras.schema import TEST, TRAIN, VAL


def assign_splits(rows: Sequence[Row], config: TableConfig, seed: int) -> list[str]:
    """Returns train, val or test for each row.

    Existing splits are kept; without a val row, `config.val_share` of the train rows
    become val, and likewise test. Without splits all rows are divided at random,
    stratified by their labels, with no group in two splits, at least one row in each
    split, and each class of three rows or more in train. With `config.folds` the
    rows of one fold are test and the others are divided into train and val. The same
    rows and seed give the same splits.

    Raises:
        UserError: There are fewer than three rows or groups, no train row, or a
            group in several splits; or as `assign_folds`.
    """
    if config.folds:
        return _split_around_fold(rows, config, seed)
    splits = [row.split or TRAIN for row in rows]
    missing = [split for split in (VAL, TEST) if split not in splits]
    if not rows:
        raise UserError("No usable row is left to train on. Correct the rejected rows.")
    if TRAIN not in splits:
        raise UserError(
            "No usable row has the split train. Set it for some rows, or leave the "
            "split column empty to divide the rows at random."
        )
    if any(row.split for row in rows):
        _check_groups(rows, splits)
    if not missing:
        return splits
    shares = {VAL: config.val_share, TEST: config.test_share}
    shares = {split: shares[split] for split in missing}
    shares = {TRAIN: 1 - sum(shares.values()), **shares}
    train = [i for i, split in enumerate(splits) if split == TRAIN]
    divided = _divide([rows[i] for i in train], shares, seed)
    for i, split in zip(train, divided, strict=True):
        splits[i] = split
    return splits


def assign_folds(rows: Sequence[Row], folds: int, seed: int) -> list[int]:
    """Returns the fold of each row, from 1, stratified by the labels.

    No group is in two folds, and each of the two or more folds has at least one row.
    The same rows and seed give the same folds.

    Raises:
        UserError: There are too few rows or groups for the folds plus one row each
            for training and validation.
    """
    groups = _shuffled(_groups(rows), seed)
    assignment = dict.fromkeys(range(1, folds + 1), groups)
    if folds <= len(groups):
        assignment = _place(groups, rows, dict.fromkeys(assignment, 1 / folds))
        _fill_every_split(assignment)
    if max(map(len, assignment.values())) > len(groups) - 2:
        raise UserError(
            f"{len(groups)} usable rows or groups are too few for {folds} folds: each "
            "needs one, and two more to train and to validate. Give fewer folds, or "
            "more rows."
        )
    return _parts(assignment)


def _split_around_fold(rows, config, seed) -> list[str]:
    """Returns test for the rows of `config.fold`, and train or val for the others."""
    folds = assign_folds(rows, config.folds, seed)
    others = [row for row, fold in zip(rows, folds, strict=True) if fold != config.fold]
    shares = {TRAIN: 1 - config.val_share, VAL: config.val_share}
    divided = iter(_divide(others, shares, seed))
    return [TEST if fold == config.fold else next(divided) for fold in folds]


def check_labels(
    rows: Sequence[Row], task: str = AUTO, columns: Sequence[str] = ()
) -> list[str]:
    """Returns warnings: classes with a single row, labels that look alike, lists.

    Several label `columns` that are 0 in all rows are a warning too.

    Raises:
        UserError: All rows have the same one class or number, or as `check_task`.
    """
    check_task(rows, task)
    counts = Counter(label for row in rows for label in row.labels)
    if task in LABEL_KINDS:
        if len(counts) < 2:
            raise UserError(
                f"All {len(rows)} usable rows have the label "
                f"{format_names(list(counts))}, so there is nothing to learn. Check "
                "the label column, and that the table has rows with other labels."
            )
        return []
    if len(counts) < 2:
        raise UserError(
            f"The rows have {format_names(list(counts)) or 'no label'} only; training "
            "needs at least two classes. Check the label column."
        )
    single = sorted(label for label, n in counts.items() if n == 1)
    which = "One class has" if len(single) == 1 else f"{len(single)} classes have"
    problem = "one row only, so it cannot be both learned and tested"
    warnings = [f"{which} {problem}: {format_names(single)}."] if single else []
    if len(columns) > 1 and set(counts) < set(columns):
        unused = format_names([name for name in columns if name not in counts])
        warnings.append(f"Label columns of 0 in all rows are no classes: {unused}.")
    cells = Counter(row.label_cell for row in rows)
    labels = {row.label_cell: row.labels for row in rows}
    return [*warnings, *warn_lookalikes(cells, counts), *warn_lists(cells, labels)]


def _check_groups(rows, splits):
    split_of: dict[str, str] = {}
    for row, split in zip(rows, splits, strict=True):
        first = split_of.setdefault(row.group, split)
        if row.group and first != split:
            raise UserError(
                f"Group '{row.group}' is in the splits {first} and {split} "
                f"({row.place}). Give all its rows one split, or another group."
            )


def _divide(rows: list[Row], shares: dict[str, float], seed: int) -> list[str]:
    """Returns the split of each row; groups are assigned by size, then at random.

    Each group goes to the split, among those with enough room, that is furthest
    behind its share, over the rows with the same labels and over all rows.
    """
    groups = _groups(rows)
    if len(groups) < len(shares):
        raise UserError(
            f"{len(groups)} usable rows or groups cannot be divided into "
            f"{', '.join(shares)}: at least {len(shares)} are needed. Add rows."
        )
    assignment = _place(_shuffled(groups, seed), rows, shares)
    _train_every_class(rows, assignment)
    _fill_every_split(assignment)
    return _parts(assignment)


def _parts(assignment):
    """Returns the part of each row, from split or fold -> groups of row numbers."""
    part_of = {i: k for k, groups in assignment.items() for g in groups for i in g}
    return [part_of[i] for i in range(len(part_of))]


def _shuffled(groups, seed):
    """Returns the groups by size, the largest first, ties in random order."""
    order = np.random.default_rng(seed).permutation(len(groups))
    return sorted((groups[i] for i in order), key=len, reverse=True)


def _place(groups, rows, shares):
    assignment = {split: [] for split in shares}  # split -> groups
    numbered = list(enumerate(shares.values()))
    total = [0] * len(shares)  # rows in each split
    by_labels = defaultdict(lambda: [0] * len(shares))  # the same, of each label set
    for group in groups:
        sets = Counter(frozenset(rows[i].labels) for i in group)
        counts = [(by_labels[labels], n) for labels, n in sets.items()]
        counts.append((total, len(group)))
        behind = [0.0] * len(shares)
        for have, n in counts:
            rows_so_far = sum(have) + n
            for s, share in numbered:
                behind[s] += n * (share * rows_so_far - have[s])
        room = [share * len(rows) - total[s] for s, share in numbered]
        open_to = [s for s, _ in numbered if room[s] + 1e-6 >= len(group)]
        if open_to:
            best = max(open_to, key=behind.__getitem__)
        else:
            best = max(range(len(room)), key=room.__getitem__)
        for have, n in counts:
            have[best] += n
        list(assignment.values())[best].append(group)
    return assignment


def _groups(rows):
    """Returns lists of row numbers that must be in one split."""
    groups = defaultdict(list)
    for i, row in enumerate(rows):
        groups[("group", row.group) if row.group else ("row", i)].append(i)
    return list(groups.values())


def _train_every_class(rows, assignment):
    """Moves a group to train for each class of 3 rows or more that has none there."""
    counts = Counter(label for row in rows for label in row.labels)
    learned = {x for group in assignment[TRAIN] for i in group for x in rows[i].labels}
    for label in sorted(x for x, n in counts.items() if n >= 3 and x not in learned):
        holders = [
            (len(group), len(rows) - group[0], split, group)
            for split in assignment
            for group in assignment[split]
            if split != TRAIN and any(label in rows[i].labels for i in group)
        ]
        if holders:
            _, _, split, group = min(holders)
            assignment[split].remove(group)
            assignment[TRAIN].append(group)


def _fill_every_split(assignment):
    """Moves to each empty split the smallest group of the split with most groups."""
    for split in assignment:
        if not assignment[split]:
            donor = max(assignment, key=lambda s: len(assignment[s]))
            group = min(assignment[donor], key=len)
            assignment[donor].remove(group)
            assignment[split].append(group)
