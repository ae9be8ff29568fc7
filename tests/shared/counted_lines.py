"""Count the executed lines of a package, so that any nested loop shows in a test of costs."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Self

__all__ = ["Lines"]


class Lines:
    """Counts the lines of a package that run in this thread inside of `with`."""

    def __init__(self, package: ModuleType) -> None:
        assert package.__file__ is not None
        self.count = 0
        self._folder = str(Path(package.__file__).parent)

    def __enter__(self) -> Self:
        sys.settrace(self._enter)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _enter(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any] | None:
        return self._line if frame.f_code.co_filename.startswith(self._folder) else None

    def _line(self, frame: FrameType, event: str, arg: Any) -> Callable[..., Any]:
        self.count += event == "line"
        return self._line
