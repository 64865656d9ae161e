// Leases by the client library: acquire and release, one after the other, in a process of its own. Timed is the acquisition.
// Usage: library-lease.js SOCKET COUNT SPIN_MICROSECONDS

import { connect } from "../../../src/client/index.js";
import { percentile } from "../harness/statistics.js";
import { addressOf, DESCRIPTORS } from "./many-devices.js";

const [socket = "", count = "1", spin = "0"] = process.argv.slice(2);
const WARMUP = Math.ceil(Number(count) / 10);
const client = await connect({ socket, spinMicroseconds: Number(spin) });
const took: number[] = [];
for (let i = 0; i < WARMUP + Number(count); i += 1) {
  const begin = performance.now();
  const lease = await client.acquire({ kind: "device", addresses: [addressOf(0)] });
  if (i >= WARMUP) took.push((performance.now() - begin) * 1000);
  if (lease.descriptors.length !== DESCRIPTORS) throw new Error(`${lease.descriptors.length} descriptors instead of ${DESCRIPTORS}`);
  await lease.release();
}
await client.close();
process.stdout.write(`${JSON.stringify({ count: took.length, p50: percentile(took, 50), p99: percentile(took, 99) })}\n`);
process.exit(0);
