// Mapping a padded aperture from JavaScript: the call that the client library makes, thread and promise included.
// Usage: map.js COUNT

import { readFileSync } from "node:fs";
import { native } from "../../../src/native.js";
import { median } from "../harness/statistics.js";

const GIB = 1n << 30n;
const count = Number(process.argv[2]);

const mappings = (): number => readFileSync("/proc/self/maps", "latin1").split("\n").length;

const made = native.memfdCreate("aperture", 96n * GIB);
if (made.error !== null) throw new Error(made.error.code);
const took: bigint[] = [];
let taken = 0;
for (let i = 0; i < count; i += 1) {
  const before = mappings();
  const begin = process.hrtime.bigint();
  const mapped = await native.mapRegion(made.value, 0n, 128n * GIB, [{ offset: 0n, size: 96n * GIB }], true, "bench");
  took.push(process.hrtime.bigint() - begin);
  if (mapped.error !== null) throw new Error(mapped.error.code);
  taken = Math.max(taken, mappings() - before);
  const tail = await mapped.value.read(127n * GIB, 1);
  if (tail.error !== null || tail.value[0] !== 0xff) throw new Error("the tail does not read 0xFF");
  await mapped.value.close();
}
process.stdout.write(`${JSON.stringify({ nanoseconds: median(took.map(Number)), mappings: taken })}\n`);
process.exit(0);
