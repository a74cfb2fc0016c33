"""Examples at the end of each command's ``--help``; a test runs them in this order, shortened and without network."""

EXAMPLES = {
    "download": (
        ("vit download", "list data sets and weights"),
        ("vit download cassava", "fetch a Kaggle competition"),
        ("vit download augreg-tiny", "fetch pretrained weights"),
    ),
    "preview": (
        ("vit preview", "draw the data that `vit train` uses"),
        ("vit preview photos/", "draw a folder of photos"),
        ("vit preview photos/ --recipe photos", "show the changes of another recipe"),
    ),
    "check-labels": (
        ("vit check-labels digits", "judge labels by the pixels"),
        ("vit check-labels photos/ --pictures 50", "show at most 50 images on the page"),
        ("vit check-labels photos/ --json", "print all findings as JSON"),
    ),
    "train": (
        ("vit train", "train on the bundled digits"),
        ("vit train photos/ --epochs 20 --name first", "train on a folder of photos"),
        ("vit train --from-run first --lr 0.01 --name second", "change one setting"),
    ),
    "pretrain": (
        ("vit pretrain photos/", "learn from photos without labels"),
        ("vit pretrain photos/ --name seen", "give the weights a name"),
        ("vit train few-labels/ --init-from seen", "train on few labelled photos"),
        ("vit pretrain --resume", "continue the newest one"),
    ),
    "tune": (
        ("vit tune photos/ --dry-run", "show the search space and the time"),
        ("vit tune photos/ --minutes 60", "search for an hour"),
        ("vit tune --search optim.lr=1e-3..1e-1:log", "search one setting"),
        ("vit tune --resume", "continue the newest search"),
    ),
    "eval": (
        ("vit eval", "evaluate the newest finished run"),
        ("vit eval --model first --split val", "evaluate another run and split"),
        ("vit eval photos/ --model first --json", "evaluate on a folder, as JSON"),
        ("vit eval --model first --mistakes wrong/", "copy the mistakes, sorted by class"),
    ),
    "report": (
        ("vit report", "write a web page about the newest run"),
        ("vit report first second -o both.html", "compare two runs on one page"),
        ("vit report first --card", "write a model card"),
    ),
    "predict": (
        ("vit predict img.png", "predict the class of an image"),
        ("vit predict photos/ --top-k 3 --csv rows.csv", "write a table, 3 classes each"),
        ("vit predict 'photos/*/*.png' --model first", "use a pattern and another run"),
    ),
    "attention-map": (
        ("vit attention-map img.png", "draw what a prediction is based on"),
        ("vit attention-map img.png --compare", "draw all methods side by side"),
        ("vit attention-map --grid 9", "draw nine random test images"),
    ),
    "export": (
        ("vit export", "export the newest run as ONNX"),
        ("vit export first --format timm", "write a folder that timm reads"),
        ("vit export first --format torchscript", "write a file for TorchScript"),
    ),
    "bench": (
        ("vit bench", "measure the newest run"),
        ("vit bench vit-mini-patch4 -b 1,8,64", "measure an architecture"),
        ("vit bench vit-nano-patch4 --against timm", "compare with timm"),
    ),
    "models": (("vit models", "list architectures"), ("vit models --json", "the same as JSON")),
    "datasets": (("vit datasets", "list data sets"), ("vit datasets --json", "the same as JSON")),
    "recipes": (("vit recipes", "list recipes"), ("vit recipes digits", "show the settings of one")),
    "env": (("vit env", "show what a bug report needs"), ("vit env --json", "the same as JSON")),
    "runs": (
        ("vit runs", "list runs"),
        ("vit runs --sort val_accuracy --filter dataset=photos", "some, the best first"),
        ("vit runs --filter optim.lr=0.01 --filter tag=mine --json", "some as JSON"),
    ),
    "runs show": (
        ("vit runs show", "show the newest run"),
        ("vit runs show first", "show one run"),
        ("vit runs show first --json", "the same as JSON"),
    ),
    "runs best": (
        ("vit runs best", "print the best run"),
        ("vit runs best --data photos --metric val_loss", "on other data, by another number"),
    ),
    "runs compare": (
        ("vit runs compare first second", "compare two runs with the same data"),
        ("vit runs compare first second --split val", "compare validation images"),
    ),
    "runs tag": (
        ("vit runs tag first baseline mine", "add two tags"),
        ("vit runs tag first mine --remove", "remove one"),
    ),
    "runs rename": (("vit runs rename second third", "rename a run"),),
    "runs delete": (("vit runs delete third --yes", "delete a run without asking"),),
}
"""Examples by command: the words to type, and their meaning. Some need ``photos/`` and ``img.png``."""


def epilog(command: str) -> str:
    """Return the last paragraphs of a command's ``--help``: one example per line."""
    width = max(len(words) for words, _ in EXAMPLES[command])
    return "\n\n".join(
        [
            "Examples",
            *(f"[bold]{words}[/]{' ' * (width - len(words))}  {meaning}" for words, meaning in EXAMPLES[command]),
        ]
    )
