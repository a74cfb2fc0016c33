"""Examples that ``--help`` of each command ends with; a test runs them in this order, shortened and without network."""

EXAMPLES = {
    "download": (
        ("vit download", "list data sets and weights"),
        ("vit download cassava", "fetch a Kaggle competition"),
        ("vit download augreg-tiny", "fetch pretrained weights"),
    ),
    "preview": (
        ("vit preview", "draw what `vit train` would take"),
        ("vit preview photos/", "draw a folder of photos"),
        ("vit preview photos/ --recipe photos", "show another recipe's changes"),
    ),
    "train": (
        ("vit train", "train on the bundled digits"),
        ("vit train photos/ --epochs 20 --name first", "train on a folder of photos"),
        ("vit train --from-run first --lr 0.005", "the same, one setting changed"),
    ),
    "eval": (
        ("vit eval", "judge the newest finished run"),
        ("vit eval --model first --split val", "judge another run and split"),
        ("vit eval photos/ --model first --json", "judge on a folder, as JSON"),
    ),
    "predict": (
        ("vit predict img.png", "predict the class of an image"),
        ("vit predict photos/ --top-k 3 --csv rows.csv", "write a table of three each"),
        ("vit predict 'photos/*/*.png' --model first", "take a pattern, another run"),
    ),
    "attention-map": (
        ("vit attention-map img.png", "draw what a prediction rests on"),
        ("vit attention-map img.png --compare", "draw all methods side by side"),
        ("vit attention-map --grid 9", "draw nine random test images"),
    ),
    "export": (
        ("vit export", "write the newest run as ONNX"),
        ("vit export first --format timm", "write a folder that timm reads"),
        ("vit export first --format torchscript", "write a file for TorchScript"),
    ),
    "models": (("vit models", "list architectures"), ("vit models --json", "the same as JSON")),
    "datasets": (("vit datasets", "list data sets"), ("vit datasets --json", "the same as JSON")),
    "recipes": (("vit recipes", "list recipes"), ("vit recipes --json", "the same as JSON")),
    "runs": (("vit runs", "list runs"), ("vit runs --json", "the same as JSON")),
}
"""By command: what to type, and what it does. Beside the bundled data they need ``photos/`` and ``img.png``."""


def epilog(command: str) -> str:
    """Return the last paragraphs of a command's ``--help``: an example a line."""
    width = max(len(words) for words, _ in EXAMPLES[command])
    return "\n\n".join(
        [
            "Examples",
            *(f"[bold]{words}[/]{' ' * (width - len(words))}  {meaning}" for words, meaning in EXAMPLES[command]),
        ]
    )
