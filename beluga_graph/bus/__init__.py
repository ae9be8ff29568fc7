"""The event bus: agents, runs and programs communicate by topics without knowing each other.

event           events, and the records that a bus keeps about them
delivery        the queue of one subscription, and the call of its handler that is under way
record          the form in which the log stores events
unregistered    the report of classes that a bus cannot build instances of
log             all events in one order, in a store; cursors and dead letters
backpressure    publishers that wait for room, and drains
worker          the task of one subscription
topology        which publishers were seen to reach which subscriptions
dispatcher      the active subscriptions of a bus, and the publishers and drains that wait for them
subscription    Subscription: a handle on one subscription
flow_runs       flows as handlers
bus             EventBus
"""
