import { resolve } from "node:path";

/** The checkout, seen from dist/test/lab. */
export const repository = resolve(import.meta.dirname, "../../..");
