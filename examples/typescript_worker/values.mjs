// @ts-check
// Values: plain data is plain msgpack. All other data of Python is marked by an extension type, and refused here.
import { decode, encode, ExtensionCodec } from "@msgpack/msgpack";
import { ApplicationFailure } from "@temporalio/activity";

const REFERENCE = 0xc1; // the first byte of a reference to a large value; no encoded value begins with it
const DEPTH = 1000; // Python reads 1024 levels
const MARKS = [
  undefined, "int of more than 64 bits", "tuple", "set", "frozenset", "datetime", "date", "time", "timedelta", "UUID",
  "Decimal", "instance of a class",
]; // prettier-ignore

const extensionCodec = new ExtensionCodec();
extensionCodec.register({
  type: 1,
  encode: () => null,
  decode: (content) => {
    throw refuse(`the value holds a Python ${MARKS[content[0]] ?? "object"}; let the node before return plain data`);
  },
});

/**
 * Return the value of the bytes: null, a boolean, a number, text, a Uint8Array, or an array or object of such values.
 * @param {unknown} bytes
 */
export function decodeValue(bytes) {
  if (!(bytes instanceof Uint8Array)) throw refuse("the value is a failure; serve the target of an error edge in Python");
  if (bytes[0] === REFERENCE) {
    const way = "pass on something shorter, such as an address, or give the engine no claims";
    throw refuse(`the value has more than 8 KiB and is kept in claims, which this worker does not read; ${way}`);
  }
  return toNumbers(decode(bytes, { extensionCodec, useBigInt64: true, mapKeyConverter: checkKey }));
}

/**
 * Return the bytes of a value. `undefined` is written as null.
 * @param {unknown} value
 */
export function encodeValue(value) {
  checkPlain(value ?? null, "");
  return encode(value ?? null, { maxDepth: DEPTH });
}

/** @param {unknown} key */
function checkKey(key) {
  if (typeof key === "string") return key;
  throw refuse(`the value holds a map with the key ${key}; let the node before use text for keys`);
}

/** Replace each int of 64 bits by a number. @param {unknown} value @returns {unknown} */
function toNumbers(value) {
  if (typeof value === "bigint") {
    if (Number.isSafeInteger(Number(value))) return Number(value);
    throw refuse(`the value holds ${value}, which is not exact as a number; let the node before return text`);
  }
  if (Array.isArray(value)) return value.map(toNumbers);
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([key, part]) => [key, toNumbers(part)]));
}

/** @param {unknown} value @param {string} path */
function checkPlain(value, path) {
  if (value === null || ["boolean", "number", "string"].includes(typeof value) || value instanceof Uint8Array) return;
  const prototype = typeof value === "object" ? Object.getPrototypeOf(value) : undefined;
  if (Array.isArray(value)) value.forEach((part, index) => checkPlain(part, `${path}[${index}]`));
  else if (prototype === Object.prototype || prototype === null) {
    for (const [key, part] of Object.entries(/** @type {object} */ (value))) checkPlain(part, `${path}.${key}`);
  } else {
    const kind = prototype?.constructor?.name ?? typeof value;
    const message = `the output${path} is of type ${kind}; return null, booleans, numbers, text, bytes, arrays and objects`;
    throw ApplicationFailure.nonRetryable(message, "NotData");
  }
}

/** @param {string} message */
function refuse(message) {
  return ApplicationFailure.nonRetryable(message, "UnsupportedValue");
}
