"""A data set that has a name, apart from the table of all: what reads one needs no table."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetEntry:
    """A data set that ``vit`` knows by name."""

    summary: str
    source: str
    """``module:function``; the function takes the entry, a folder for downloads, the DataConfig and a listener, and
    returns a RawDataset."""
    torchvision_class: str = ""
    kaggle: str = ""
    """OWNER/NAME of a data set, or the name of a competition."""
    recipe: str = ""
    """What ``vit train`` uses where no recipe is asked for; empty: what suits the images."""
    num_classes: int = 0
    """0: not known before it is there; likewise the rest."""
    num_images: tuple[int, int] = (0, 0)
    """Images for training and for testing."""
    image_size: tuple[int, int] | None = None
    """None: of many sizes."""
    download_mb: int = 0
    licence: str = "not known"

    @property
    def is_bundled(self) -> bool:
        """Tell whether there is nothing to download."""
        return not self.torchvision_class and not self.kaggle
