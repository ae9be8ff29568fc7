// Nodes for the tests of the worker in TypeScript. The file `$GATE` lets the node `wait` go on.
import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { ApplicationFailure } from "@temporalio/activity";
import { NativeConnection, Worker } from "@temporalio/worker";

import { serve } from "./beluga.mjs";

const OUTPUTS = {
  date: () => new Date(0),
  big: () => 10n,
  inner: () => ({ rows: [1, new Map()] }),
  nothing: () => undefined,
  large: () => "x".repeat(2_000_000),
  final: () => {
    throw ApplicationFailure.nonRetryable("the account is closed", "AccountClosed");
  },
  text: () => {
    throw "no error object";
  },
};

const nodes = {
  echo: (value) => value,
  make: (name) => OUTPUTS[name](),
  async wait(value, call) {
    console.log(`began ${call.attempt}`);
    call.signal.addEventListener("abort", () => console.log("aborted"));
    while (!existsSync(process.env.GATE)) await sleep(20, undefined, { signal: call.signal });
    return [call.node, call.attempt, call.idempotencyKey];
  },
};

const connection = await NativeConnection.connect({ address: process.env.TEMPORAL_ADDRESS });
const worker = await Worker.create({
  connection,
  taskQueue: process.env.TASK_QUEUE,
  activities: serve(nodes),
  shutdownGraceTime: "10ms",
});
await worker.run();
await connection.close();
