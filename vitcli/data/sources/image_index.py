"""An index of the images below a folder, which are found by names in many spellings."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from vitcli.data.sources.image_folder import split_of
from vitcli.data.sources.image_search import PassedOver, find_images, without_images
from vitcli.data.sources.names import plain


class ImageIndex:
    """The images below a folder, which can be found by names in many spellings.

    A name may have all, some or none of the folders, and may lack the suffix. Its accented letters may be composed or
    decomposed (Unicode). Upper and lower case may differ if only one image matches.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.passed_over: PassedOver = {}
        self.files = find_images(folder, self.passed_over)
        if not self.files:
            hint = "give the folder that the images are in"
            raise without_images(f"{folder} has no images", folder, self.passed_over, hint=hint)
        self.parts = {file: PurePosixPath(plain(file.relative_to(folder).as_posix())).parts for file in self.files}
        self._by_end: dict[tuple[str, ...], list[Path]] = {}
        for file, parts in self.parts.items():
            for name in {parts[-1], PurePosixPath(parts[-1]).stem}:
                for end in {(name,), (*parts[-2:-1], name), (*parts[:-1], name)}:
                    self._by_end.setdefault(end, []).append(file)

    def find(self, name: str) -> list[Path]:
        """Find the images that a name may mean: none, one, or several with the same name in different folders."""
        spelling = plain(name)
        parts = PurePosixPath(spelling).parts
        if parts[-1:] not in self._by_end:  # no name has a backslash, as paths of Windows do
            parts = PurePosixPath(spelling.replace("\\", "/")).parts
        wanted = tuple(part for part in parts if part not in {"/", "."})
        if not wanted:
            return []
        ends = wanted, wanted[-2:], wanted[-1:]  # the longest first: thousands may share a name in different folders
        candidates = next((found for end in ends if (found := self._by_end.get(end))), [])
        if not candidates:
            return self._find_in_any_case(wanted)
        whole = [file for file in candidates if self.parts[file][-1] == wanted[-1]] or candidates
        fitting = [file for file in whole if self._lies_in(self.parts[file][:-1], wanted[:-1])]
        exact = [file for file in fitting if self.parts[file][:-1] == wanted[:-1]]
        return exact if len(exact) == 1 else fitting

    def is_in_another_folder(self, name: str, file: Path) -> bool:
        """Tell whether a name says another folder than the one that the image found by it lies in."""
        folders = [part for part in _posix(name).parts[:-1] if part != "/"]
        inner = self.parts[file][:-1]
        here = {inner[-1].casefold()} if inner else self._own_names
        return bool(folders) and folders[-1].casefold() not in here

    def has(self, name: str) -> bool:
        """Tell whether a name is that of an image as it is written, with or without its ending."""
        last = _posix(name).name
        return any(last in {each := self.parts[file][-1], PurePosixPath(each).stem} for file in self.find(name))

    def _find_in_any_case(self, wanted: Sequence[str]) -> list[Path]:
        """Find the only image whose name differs at most in upper and lower case; empty if there are several."""
        folded = [part.casefold() for part in wanted]
        candidates = self._by_folded_name.get(folded[-1], [])
        fitting = [
            file
            for file in candidates
            if self._lies_in([part.casefold() for part in self.parts[file][:-1]], folded[:-1])
        ]
        return fitting if len(fitting) == 1 else []

    @cached_property
    def _by_folded_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for file, parts in self.parts.items():
            for name in {parts[-1].casefold(), PurePosixPath(parts[-1]).stem.casefold()}:
                found.setdefault(name, []).append(file)
        return found

    def _lies_in(self, folders: Sequence[str], wanted: Sequence[str]) -> bool:
        """Tell whether an image in these folders lies in the wanted ones: the shorter path is the end of the longer one.

        If more folders are wanted, the indexed one may have another name than the next of them, because folders are
        renamed; only another split is refused.
        """
        length = min(len(folders), len(wanted))
        if length and tuple(folders[-length:]) != tuple(wanted[-length:]):
            return False
        above = wanted[-length - 1].casefold() if len(wanted) > len(folders) else ""
        if not above or above in self._own_names:
            return True
        own = {split_of(name) for name in self._own_names}
        return None in own or split_of(above) in {None, *own}

    @cached_property
    def _own_names(self) -> set[str]:
        return {plain(name).casefold() for name in (self.folder.name, self.folder.resolve().name)}


def _posix(name: str) -> PurePosixPath:
    """Return the path of a name with composed letters, whose folders may be written as those of Windows."""
    return PurePosixPath(plain(name).replace("\\", "/"))
