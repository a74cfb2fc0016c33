"""The runs of a cross-validation, or with several seeds, one after the other: what they tell, and how they are stopped."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from vitcli.core.errors import Interrupted, VitError
from vitcli.core.events import Emit, Event, Note, TrainingAhead, TrainingStarted, Warned
from vitcli.core.interrupts import late_requests


@contextmanager
def one_member(
    member: str, number: int, count: int, emit: Emit, *, group: Path | None
) -> Iterator[Callable[[Path], None]]:
    """Announce a run of a group, and make errors in the block name the group instead of the run.

    Args:
        member: the name of the run within its group.
        number: its number, from 1.
        count: the number of runs.
        emit: receives the announcement.
        group: the folder of the group; None: not known before the run has one, which the block then passes on.

    Raises:
        Interrupted: a signal came before the training, or too late to stop it, and other runs would follow.
    """
    kind, _, own = member.partition("-")
    emit(Note(text=f"fold {number} of {count}" if kind == "fold" else f"seed {own}, run {number} of {count}"))

    def begun(folder: Path) -> None:
        nonlocal group
        group = folder

    def hint() -> str:
        return f"`vit train --resume {shlex.quote(str(group))}` continues the group" if group else ""

    try:
        with late_requests() as late:
            yield begun
    except KeyboardInterrupt:
        raise Interrupted(f"stopped by Ctrl-C in run {number} of {count}", hint=hint(), exit_code=130) from None
    except VitError as error:
        error.hint = error.hint.replace(f"/{member}`", "`")
        raise
    if late and number < count:
        late.hint = hint()
        raise late.error(f"after run {number} of {count}; all is saved")


def once_for_all(emit: Emit, said: set[str], *, runs: int) -> Emit:
    """Return an ``emit`` for one run of a group, which does not repeat what was said of others.

    Warnings, notes before the training starts, and an estimate of the time, which is that of all, are passed on once.

    Args:
        emit: receives the events.
        said: the texts that were passed on; it is shared by all runs.
        runs: the number of runs that are left to train, with this one.
    """
    is_training = False

    def pass_on(event: Event) -> None:
        nonlocal is_training
        is_training = is_training or isinstance(event, TrainingStarted)
        if isinstance(event, TrainingAhead):
            event = replace(event, runs=runs)
        if isinstance(event, Warned | TrainingAhead) or (isinstance(event, Note) and not is_training):
            what = "" if isinstance(event, TrainingAhead) else event.text
            if what in said:
                return
            said.add(what)
        emit(event)

    return pass_on
