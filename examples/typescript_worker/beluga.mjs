// @ts-check
// Serves nodes of flows: reads a call, runs the node's function and packs the reply. README.md describes the wire.
import { decode, encode } from "@msgpack/msgpack";
import { ApplicationFailure, Context } from "@temporalio/activity";

import { decodeValue, encodeValue } from "./values.mjs";

const FORMAT = 1;
const REPLY_BYTES = 1_900_000; // the server refuses a payload of 2 MiB
const BEATS = 3; // heartbeats within the time after which the server takes a silent worker for lost

/**
 * What a node's function gets beside its input.
 * @typedef {object} Call
 * @property {string} runId Id of the run.
 * @property {string} node Path of the node.
 * @property {number} attempt Number of this attempt, from 1. The loss of a worker does not count.
 * @property {string} idempotencyKey The same for each attempt of this visit: pass it to calls that must happen once.
 * @property {AbortSignal} signal Aborted if the run does not need the result any more, or the time limit has passed.
 *
 * @typedef {(value: any, call: Call) => unknown} Body
 */

/**
 * Return the activities of a worker that serves nodes, given by path.
 *
 * If a function throws, the flow's retry policy decides whether the node is tried again. An
 * `ApplicationFailure.nonRetryable(message, type)` is not tried again.
 * @param {Record<string, Body>} bodies
 */
export function serve(bodies) {
  return { "beluga_graph.attempt": (/** @type {Uint8Array} */ packed) => makeAttempt(bodies, packed) };
}

/** @param {Record<string, Body>} bodies @param {Uint8Array} packed */
async function makeAttempt(bodies, packed) {
  const given = /** @type {any} */ (decode(packed));
  if (given.format !== FORMAT) {
    const message = `the call has format ${given.format}; this worker reads ${FORMAT}`;
    throw ApplicationFailure.nonRetryable(message, "UnknownFormat");
  }
  const { run, token: name } = given.calls[0]; // a node with a task queue of its own gets one call at a time
  const [, node, , input, , attempt] = run.tokens.find((/** @type {any[]} */ row) => row[0] === name);
  const began = Date.now();
  const reply = (/** @type {string} */ kind, /** @type {object} */ more) => {
    const fields = { token: name, attempt, ...more };
    return encode({ format: FORMAT, replies: [{ kind, fields, items: [], messages: [], ms: Date.now() - began }] });
  };
  const worker = keepAlive(Context.current());
  const limit = startTimer(given.timeout_ms, attempt);
  try {
    if (worker.losses > given.max_interruptions) {
      const message = `${worker.losses} workers were lost while the node ran; `;
      const limits = `max_interruptions is ${given.max_interruptions}`;
      throw ApplicationFailure.nonRetryable(message + limits, "Interrupted");
    }
    const signal = AbortSignal.any([worker.signal, limit.signal]);
    const call = { runId: run.run_id, node, attempt, idempotencyKey: `${run.run_id}:${name}`, signal };
    const output = await Promise.race([runBody(bodies, input, call), limit.passed, worker.cancelled]);
    const finished = reply("finished", { values: [encodeValue(output)] });
    if (finished.length <= REPLY_BYTES) return finished;
    const message = `the result is ${finished.length} bytes; a worker can return ${REPLY_BYTES}`;
    throw ApplicationFailure.nonRetryable(message, "TooLarge");
  } catch (error) {
    if (worker.signal.aborted) await worker.cancelled; // throws: Temporal records the cancellation
    return reply("failed", describe(error));
  } finally {
    worker.stop();
    limit.stop();
  }
}

/** @param {Record<string, Body>} bodies @param {Uint8Array} input @param {Call} call */
async function runBody(bodies, input, call) {
  const body = Object.hasOwn(bodies, call.node) ? bodies[call.node] : undefined;
  if (body !== undefined) return body(decodeValue(input), call);
  const known = Object.keys(bodies).join(", ");
  throw ApplicationFailure.nonRetryable(`this worker has no node ${call.node}; it has ${known}`, "UnknownNode");
}

/**
 * Send heartbeats until stopped: without them the server neither notices a lost worker nor announces a cancellation.
 * @param {Context} context
 */
function keepAlive({ info, cancelled, cancellationSignal, heartbeat }) {
  const since = info.heartbeatDetails?.since ?? 1; // the number of the activity's try from which losses count
  const timer = setInterval(() => heartbeat({ since }), (info.heartbeatTimeoutMs ?? 10_000) / BEATS);
  const noted = cancelled.catch((error) => {
    if (error.message === "WORKER_SHUTDOWN") heartbeat({ since: since + 1 }); // an orderly stop is no loss
    throw error;
  });
  noted.catch(() => {}); // it may reject when the attempt has ended, and no one waits
  return { losses: info.attempt - since, signal: cancellationSignal, cancelled: noted, stop: () => clearInterval(timer) };
}

/** @param {number | null} ms @param {number} attempt */
function startTimer(ms, attempt) {
  const controller = new AbortController();
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {Promise<never>} */
  const passed = new Promise((_, reject) => {
    if (ms === null) return;
    timer = setTimeout(() => {
      reject(ApplicationFailure.retryable(`attempt ${attempt} took longer than ${ms / 1000} s`, "Timeout"));
      controller.abort();
    }, ms);
  });
  return { passed, signal: controller.signal, stop: () => clearTimeout(timer) };
}

/** Return the type, the message and the fate of an error. @param {unknown} error */
function describe(error) {
  if (error instanceof ApplicationFailure) {
    return { type: error.type ?? "ApplicationFailure", message: error.message, retryable: !error.nonRetryable };
  }
  if (!(error instanceof Error)) return { type: "Error", message: String(error), retryable: true };
  const type = error.name === "Error" ? error.constructor.name : error.name;
  return { type, message: error.message, retryable: true };
}
