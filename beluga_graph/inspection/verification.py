"""Verification of a store at a path: its file page by page, then every record and every run.

The file is read first, and without LMDB: LMDB may end the process at a page that is damaged.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from beluga_graph.storage.verify import Damage, StoreReport, verify_store
from stores.base import Store
from stores.verifying import find_damage

__all__ = ["StoreReport", "verify_path"]

_FINDINGS_MAX = 20  # of one file; further findings add nothing


def verify_path(path: Path, open_store: Callable[[Path], AbstractContextManager[Store]]) -> StoreReport:
    """Return the damage of the store at a path. If pages of its file are damaged, it is not opened.

    Raises `StoreDamaged` if the file is not one of LMDB's, and `StoreFormat` if it has another format.
    """
    findings = find_damage(path)
    if findings:
        left = len(findings) - _FINDINGS_MAX
        more = [f"and {left:,} more of the kind"] if left > 0 else []
        return StoreReport({}, 0, tuple(Damage("data.mdb", text) for text in [*findings[:_FINDINGS_MAX], *more]))
    with open_store(path) as store:
        return verify_store(store)
