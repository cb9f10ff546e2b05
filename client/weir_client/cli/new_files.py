# SPDX-License-Identifier: Apache-2.0
"""Files that commands write: looked at before anything is asked, paid or made for them, and never overwritten."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from weir.errors import InvalidRequest
from weir_client._receipts import Receipt


def demand_new_file(
    path: Path, *, field: str = "output", rule: str = "output.exists", sentence: str = "give a new file",
    makes_folders: bool = False,
) -> None:  # fmt: skip
    """Refuses a file that is there, or that cannot be made. `makes_folders`: whoever writes it makes its folders, too.

    Raises:
        InvalidRequest: nothing was written; `rule`, or `output.place` where its folder takes no file.
    """
    # A link that leads nowhere is somebody's file, too: written through, it would make one elsewhere.
    if os.path.lexists(path):
        raise InvalidRequest(f"{path} exists; {sentence}", field=field, rule=rule)
    demand_folder(path.absolute().parent, named=path, field=field, makes_folders=makes_folders)


def demand_folder(folder: Path, *, named: Path, field: str, makes_folders: bool = True) -> None:
    """Refuses a folder that takes no file, for `named` in the text of the refusal.

    Raises:
        InvalidRequest: rule `output.place`.
    """
    place = folder.absolute()
    while makes_folders and not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if not place.is_dir():
        reason = f"{place} is no folder"
    elif not os.access(place, os.W_OK | os.X_OK):
        reason = f"{place} is closed to you"
    else:
        return
    raise InvalidRequest(f"{named} cannot be written: {reason}", field=field, rule="output.place")


def demand_receipt_file(path: str | None) -> None:
    """As `demand_new_file`, for --save-receipt: before the question is asked, since what it costs is not given back."""
    if path is not None:
        demand_new_file(Path(path), field="save-receipt", makes_folders=True)


@contextlib.contextmanager
def receipt_kept(receipt: Receipt, path: str | None) -> Iterator[None]:
    """Writes the receipt behind the block, which shows what was paid for: a full disk must not take an answer away that
    was charged. Where the block fails, the receipt is evidence, and the block's error is the one that is told."""
    try:
        yield
    except BaseException:
        if path is not None:
            with contextlib.suppress(OSError):
                receipt.save(path)
        raise
    if path is not None:
        receipt.save(path)
