"""The public names, and where they are at home. Read by type checkers, and by `lazy_loader` at run time."""

from .agents.agent import (
    Agent as Agent,
)
from .agents.handoffs import (
    Handoff as Handoff,
    HandoffInput as HandoffInput,
    handoff_to as handoff_to,
)
from .agents.persona import (
    Persona as Persona,
)
from .agents.tools import (
    Tool as Tool,
    tool as tool,
)
from .bus.bus import (
    EventBus as EventBus,
)
from .bus.event import (
    BusEvent as BusEvent,
    DeadLetter as DeadLetter,
    ObservedEdge as ObservedEdge,
)
from .bus.subscription import (
    Subscription as Subscription,
)
from .inspection.comparison import (
    ComparedNode as ComparedNode,
    ComparedRun as ComparedRun,
    ComparedValue as ComparedValue,
    Divergence as Divergence,
    RunComparison as RunComparison,
)
from .execution.context import (
    Context as Context,
)
from .engine.engine import (
    Engine as Engine,
)
from .errors import (
    AmbiguousExit as AmbiguousExit,
    BadName as BadName,
    BadRename as BadRename,
    BadRunId as BadRunId,
    BadSignal as BadSignal,
    BadState as BadState,
    BadTopic as BadTopic,
    BelugaError as BelugaError,
    BusClosed as BusClosed,
    BusError as BusError,
    DelegationCycle as DelegationCycle,
    DuplicateNode as DuplicateNode,
    EdgeTypeMismatch as EdgeTypeMismatch,
    GraphChanged as GraphChanged,
    GraphError as GraphError,
    Interrupted as Interrupted,
    JoinUnreachable as JoinUnreachable,
    LeaseLost as LeaseLost,
    LimitReached as LimitReached,
    ModelError as ModelError,
    NoWayOut as NoWayOut,
    NotData as NotData,
    Rejected as Rejected,
    RunBusy as RunBusy,
    RunCancelled as RunCancelled,
    RunConflict as RunConflict,
    RunError as RunError,
    RunFailed as RunFailed,
    RunNotFound as RunNotFound,
    ScheduleNotFound as ScheduleNotFound,
    SignalTimeout as SignalTimeout,
    SnapshotError as SnapshotError,
    StateConflict as StateConflict,
    StateError as StateError,
    TemporalUnavailable as TemporalUnavailable,
    Timeout as Timeout,
    ToolError as ToolError,
    UnclosedFanOut as UnclosedFanOut,
    UnknownNode as UnknownNode,
    UnknownRoute as UnknownRoute,
    Unreachable as Unreachable,
)
from .events import (
    Event as Event,
    Failure as Failure,
)
from .flows.flow import (
    Flow as Flow,
)
from .flows.graph import (
    Graph as Graph,
)
from .flows.loop import (
    LoopAgent as LoopAgent,
)
from .flows.parallel import (
    ParallelAgent as ParallelAgent,
)
from .flows.sequential import (
    SequentialAgent as SequentialAgent,
)
from .flows.steps import (
    sleep as sleep,
    step as step,
    wait_signal as wait_signal,
)
from .flows.workflow import (
    Workflow as Workflow,
)
from .plan.compatibility import (
    JudgedChange as JudgedChange,
)
from .plan.declared import (
    END as END,
    Node as Node,
    START as START,
)
from .plan.diff import (
    PlanChange as PlanChange,
)
from .policy import (
    Limits as Limits,
    Retry as Retry,
)
from .inspection.approvals import (
    Question as Question,
)
from .reducers import (
    add as add,
    append as append,
    last as last,
    maximum as maximum,
    merge as merge,
    union as union,
)
from .engine.recovery import (
    Recovery as Recovery,
)
from .engine.run import (
    Run as Run,
)
from .engine.sync import (
    run_sync as run_sync,
)
from .inspection.schedules import (
    ScheduleInfo as ScheduleInfo,
)
from .inspection.signal_waits import (
    SignalWait as SignalWait,
)
from .inspection.views import (
    Outcome as Outcome,
    RunInfo as RunInfo,
    RunSnapshot as RunSnapshot,
    RunStatus as RunStatus,
    StepInfo as StepInfo,
    TokenInfo as TokenInfo,
)
from .inspection.why import (
    AwaitedTrigger as AwaitedTrigger,
    Reason as Reason,
    Why as Why,
)

__version__: str
