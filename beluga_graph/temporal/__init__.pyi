from .claims.backends import ClaimsFailed as ClaimsFailed
from .claims.claims import (
    CachedClaims as CachedClaims,
)
from .claims.claims import (
    ClaimNotFound as ClaimNotFound,
)
from .claims.claims import (
    Claims as Claims,
)
from .claims.claims import (
    ClaimsOption as ClaimsOption,
)
from .claims.claims import (
    open_claims as open_claims,
)
from .client.adopter import LocalEngine as LocalEngine
from .connection.new_execution import TemporalDurability as TemporalDurability
from .engine import TemporalEngine as TemporalEngine
from .live.subscriptions import HEARTBEATS as HEARTBEATS
from .run import TemporalRun as TemporalRun
from .worker import TemporalWorker as TemporalWorker
