// @ts-check
// Serves the node `translate` of the flow in flow.py.
import { NativeConnection, Worker } from "@temporalio/worker";

import { serve } from "./beluga.mjs";

const WORDS = new Map([["good", "guten"], ["morning", "Morgen"], ["world", "Welt"]]); // prettier-ignore

/** @param {string} text @param {import("./beluga.mjs").Call} call */
async function translate(text, call) {
  console.log(`${call.node}: attempt ${call.attempt}`);
  if (text === "") throw new RangeError("there is no text to translate");
  return text.split(" ").map((word) => WORDS.get(word) ?? word).join(" "); // prettier-ignore
}

const connection = await NativeConnection.connect({ address: process.env.TEMPORAL_ADDRESS ?? "localhost:7233" });
const worker = await Worker.create({
  connection,
  taskQueue: "translations",
  activities: serve({ translate }),
  shutdownGraceTime: "10s",
});
await worker.run(); // until SIGINT or SIGTERM
await connection.close();
