"""The entry of a data set known by name; separate from the table, so that sources need not import the table."""

from dataclasses import dataclass

from vitcli.core.words import UNKNOWN_LICENCE


@dataclass(frozen=True, kw_only=True, slots=True)
class DatasetEntry:
    """A data set that ``vit`` knows by name."""

    summary: str
    source: str
    """``module:function``; the function takes the entry, a folder for downloads, the DataConfig and a listener for
    events, and returns a RawDataset."""
    torchvision_class: str = ""
    kaggle: str = ""
    """OWNER/NAME of a data set on Kaggle, or the name of a competition."""
    recipe: str = ""
    """The recipe that ``vit train`` uses if none is given; empty: chosen by the images and the device."""
    num_classes: int = 0
    """Number of classes; 0: not known before the download."""
    num_images: tuple[int, int] = (0, 0)
    """Number of images for training and for testing; 0: none, or not known before the download."""
    image_size: tuple[int, int] | None = None
    """Height and width of all images; None: images of many sizes, or not known before the download."""
    download_mb: int = 0
    licence: str = UNKNOWN_LICENCE
    hub: str = ""
    """OWNER/NAME of the same images on the Hugging Face hub; empty: not there, or not certain."""

    @property
    def is_bundled(self) -> bool:
        """Tell whether the data set needs no download."""
        return not self.torchvision_class and not self.kaggle
