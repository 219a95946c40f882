"""The types of columns. A new one is added here.

A flag of its own, such as `--table.date`, is in `mmkeras/config/table.py`.
"""

from mmkeras.modalities.audio.column import Audio
from mmkeras.modalities.column import Column
from mmkeras.modalities.image.column import Image
from mmkeras.modalities.tabular.category import Category
from mmkeras.modalities.tabular.date import Date
from mmkeras.modalities.tabular.geo import Geo
from mmkeras.modalities.tabular.numeric import Numeric
from mmkeras.modalities.text.column import Text
from mmkeras.modalities.vector.column import Vector

_TYPES = (Text, Image, Audio, Vector, Date, Geo, Numeric, Category)

# In the order of the branches.
TYPES: dict[str, type[Column]] = {kind.type: kind for kind in _TYPES}
