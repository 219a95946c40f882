"""The types of columns. A new one is added here, and nowhere else."""

from mmkeras.modalities.audio.column import Audio
from mmkeras.modalities.column import Column
from mmkeras.modalities.image.column import Image
from mmkeras.modalities.text.column import Text
from mmkeras.modalities.vector.column import Vector

# In the order of the branches.
TYPES: dict[str, type[Column]] = {
    kind.type: kind for kind in (Text, Image, Audio, Vector)
}
