// HostService.TestPolicy: policy asked in advance, for a caller made of words.

import type { Address } from "../broker/device.js";
import type { Asked, Caller } from "../broker/policy.js";
import type { Explanation } from "../broker/policy-explain.js";
import { granted, type Outcome } from "../broker/refusal.js";
import type { TestPolicyRequest__Output } from "../generated/aperture/v1/TestPolicyRequest.js";
import type { TestPolicyResponse } from "../generated/aperture/v1/TestPolicyResponse.js";
import { quoted, readAddress, wrong } from "./validate.js";

export interface PolicyQuery {
  readonly caller: Caller;
  readonly address: Address;
  readonly asked: Asked;
}

const MOST_GROUPS = 4_096;
/** (uid_t)-1 is "no change" to the kernel, and nobody's number. */
const NO_ID = 0xffffffff;
/** PATH_MAX without its NUL. */
const LONGEST_PATH = 4_095;

export function readPolicyQuery(request: TestPolicyRequest__Output): Outcome<PolicyQuery> {
  if (request.uid === NO_ID) return wrong("uid", `${NO_ID} is no user`);
  if (request.gids.length > MOST_GROUPS) return wrong("gids", `${request.gids.length} groups, where ${MOST_GROUPS} are the most`);
  if (request.gids.includes(NO_ID)) return wrong("gids", `${NO_ID} is no group`);
  for (const field of ["executable", "cgroup"] as const) {
    const path = request[field];
    if (path === "") continue;
    if (!path.startsWith("/")) return wrong(field, `${quoted(path)} is no absolute path`);
    if (path.includes("\0") || Buffer.byteLength(path) > LONGEST_PATH)
      return wrong(field, `no path: it holds NUL or more than ${LONGEST_PATH} bytes`);
  }
  const address = readAddress(request.address, "address");
  if (address.refusal) return address;
  if (!["LEASE_KIND_UNSPECIFIED", "LEASE_KIND_DEVICE", "LEASE_KIND_REGION"].includes(request.kind))
    return wrong("kind", "say LEASE_KIND_DEVICE or LEASE_KIND_REGION");
  if (!["LEASE_MODE_UNSPECIFIED", "LEASE_MODE_HAND_OFF", "LEASE_MODE_RETAIN"].includes(request.mode))
    return wrong("mode", "say LEASE_MODE_HAND_OFF or LEASE_MODE_RETAIN");
  const kind = request.kind === "LEASE_KIND_REGION" ? "REGION" : "DEVICE";
  const mode = request.mode === "LEASE_MODE_RETAIN" ? "RETAIN" : "HAND_OFF";
  if (kind === "REGION" && mode === "RETAIN") return wrong("mode", "a region lease has no mode RETAIN");
  const [gid = null, ...groups] = request.gids;
  const caller = { uid: request.uid, gid, groups, executable: request.executable || null, cgroup: request.cgroup || null };
  return granted({ caller, address: address.value, asked: { kind, mode, delegate: request.delegate } });
}

export function toPolicyAnswer({ rule, refusal, steps }: Explanation, { caller, address, asked }: PolicyQuery): TestPolicyResponse {
  const answer: TestPolicyResponse = {
    allowed: refusal === null,
    rule: rule?.name ?? "",
    reason: refusal?.reason ?? "",
    message:
      refusal?.message ?? `uid ${caller.uid} may take a ${asked.kind.toLowerCase()} lease of ${address}: policy rule "${rule?.name}"`,
    steps: steps.map((step) => ({ ...step })),
  };
  if (refusal !== null || rule === null) return answer;
  answer.allowDeviceScope = rule.allowDeviceScope;
  answer.allowUnreset = rule.allowUnreset;
  if (rule.maxLeases !== null) answer.maxLeases = rule.maxLeases;
  if (rule.maxDurationMs !== null)
    answer.maxDuration = { seconds: Math.floor(rule.maxDurationMs / 1000).toString(), nanos: (rule.maxDurationMs % 1000) * 1_000_000 };
  return answer;
}
