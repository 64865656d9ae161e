import { NVGRACE } from "../broker/nvgrace.js";
import type { KnownDevice } from "../broker/ports.js";

/** By its driver, which takes no other device; or because the host has given it generic initiators. */
export function isGrace({ facts }: KnownDevice): boolean {
  return facts.driver === NVGRACE || facts.genericInitiators !== null;
}
