"""Table of a program that was given none: that of the data set for its task."""

from typing import Any

from mmkeras.config.generate import GENERATE
from mmkeras.config.validation import AUTO
from mmkeras.data import demo_dataset, scene_dataset


def table_or_demo(table: Any, task: str = AUTO) -> Any:
    """Returns the table, or for None that of a data set in the user's cache.

    With the task "generate" that are the captions of the scenes, else the demo data
    set.

    Example:
        table = table_or_demo(None, config.task)
    """
    if table is not None:
        return table
    source = scene_dataset if task == GENERATE else demo_dataset
    return source.make_dataset(source.default_folder()) / source.TABLE_FILE


def demo_note(preset: str, task: str = AUTO) -> str:
    """Returns what a program says that was given no table."""
    data = "demo captions of scenes" if task == GENERATE else "demo data set"
    return (
        f"Data: the {data}; preset {preset}. --data FILE.csv and --preset NAME "
        "give others."
    )
