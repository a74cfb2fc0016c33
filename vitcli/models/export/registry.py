"""Registry of export formats: a table that does not import torch."""

from dataclasses import dataclass

from vitcli.core.registry import Registry


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportEntry:
    """A kind of file or folder that ``vit export`` writes."""

    summary: str
    function: str
    """``module:function``; it takes model, classes, preprocessing and a path that does not exist, writes there, and
    returns an ``Exported``: what the other library loads from it."""
    name: str
    """The name of the file or folder."""
    needs: tuple[str, ...] = ()
    """Packages that have to be installed."""

    @property
    def is_folder(self) -> bool:
        """Tell whether the export is a folder, not a file."""
        return "." not in self.name


EXPORTS: Registry[ExportEntry] = Registry(
    "export format",
    {
        "onnx": ExportEntry(
            summary="one file for onnxruntime and others, batches of any size",
            function="vitcli.models.export.onnx:write",
            name="model.onnx",
            needs=("onnx", "onnxscript", "onnxruntime"),
        ),
        "torchscript": ExportEntry(
            summary="one file for torch.jit.load, which does not need vit",
            function="vitcli.models.export.torchscript:write",
            name="model.torchscript.pt",
        ),
        "timm": ExportEntry(
            summary="a folder for timm.create_model('local-dir:...', pretrained=True)",
            function="vitcli.models.export.timm:write",
            name="timm",
            needs=("timm",),
        ),
        "transformers": ExportEntry(
            summary="a folder for AutoModelForImageClassification.from_pretrained",
            function="vitcli.models.export.transformers:write",
            name="transformers",
            needs=("transformers",),
        ),
    },
    listing="vit export --help",
)
