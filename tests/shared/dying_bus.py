"""A bus that kills its process on the way of a message."""

import os
import signal
from pathlib import Path

from beluga_graph import EventBus
from beluga_graph.execution.messages import Message

__all__ = ["DyingBus"]


class DyingBus(EventBus):
    """A bus that kills the process as it relays a message of one topic: `before` or `after` it has accepted it."""

    def __init__(self, folder: Path, topic: str, when: str) -> None:
        super().__init__(folder)
        self._topic, self._when = topic, when

    async def relay(self, message: Message) -> None:
        """Take a message, or die."""
        dies = message.topic == self._topic
        if dies and self._when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await super().relay(message)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)
