"""The event bus: agents, runs and programs that speak by topics and do not know each other.

event           what is published, and what is told of it
record          an event as it lies in the log
strangers       classes that it cannot build instances of, which the log is to say
log             every event in one order, in a store; cursors and dead letters beside it
subscription    one handler with its place in the log
runs            flows that hear events
waits           publishers that wait for room, and drains
observed        who was seen to speak to whom
bus             EventBus: what a user holds
"""
