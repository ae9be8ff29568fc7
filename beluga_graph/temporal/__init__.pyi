from .engine import TemporalEngine as TemporalEngine
from .run import TemporalRun as TemporalRun
from .worker import TemporalWorker as TemporalWorker
