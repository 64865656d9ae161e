// What an operator asks of the daemon: policy in advance, a reload, a scan.

import type { ReloadConfigResponse__Output } from "../generated/aperture/v1/ReloadConfigResponse.js";
import type { RescanResponse__Output } from "../generated/aperture/v1/RescanResponse.js";
import type { TestPolicyRequest } from "../generated/aperture/v1/TestPolicyRequest.js";
import type { TestPolicyResponse__Output } from "../generated/aperture/v1/TestPolicyResponse.js";

/** Who would ask for what. */
export interface PolicyQuestion {
  readonly uid: number;
  /** Primary and supplementary groups. Default: none. */
  readonly gids?: readonly number[];
  /** Default: not known, so that no rule with an executable pattern matches. */
  readonly executable?: string;
  /** Path in the cgroup v2 hierarchy. Default: not known. */
  readonly cgroup?: string;
  readonly address: string;
  /** Default DEVICE. */
  readonly kind?: "DEVICE" | "REGION";
  /** Default HAND_OFF. */
  readonly mode?: "HAND_OFF" | "RETAIN";
  /** For another process, with a ticket. Default false. */
  readonly delegate?: boolean;
}

export interface PolicyStep {
  /** From 1. */
  readonly position: number;
  readonly rule: string;
  readonly matched: boolean;
  readonly explanation: string;
}

export interface PolicyAnswer {
  readonly allowed: boolean;
  /** The rule that decided; empty: none matched, which denies. */
  readonly rule: string;
  /** Empty when allowed. */
  readonly reason: string;
  readonly message: string;
  readonly steps: readonly PolicyStep[];
  readonly allowDeviceScope: boolean;
  readonly allowUnreset: boolean;
  /** null: only the daemon's general limit. */
  readonly maxLeases: number | null;
  /** Milliseconds; null: no end. */
  readonly maxDurationMs: number | null;
}

export interface SettingChange {
  readonly name: string;
  readonly from: string;
  readonly to: string;
}

export interface ReloadAnswer {
  /** False: the configuration has problems, and everything stays as it was. */
  readonly applied: boolean;
  readonly problems: readonly string[];
  readonly changed: readonly SettingChange[];
  readonly needsRestart: readonly SettingChange[];
  readonly policyRules: number;
  readonly policyChanged: boolean;
}

export interface RescanAnswer {
  readonly revision: bigint;
  readonly devices: number;
}

export function encodeQuestion(question: PolicyQuestion): TestPolicyRequest {
  return {
    uid: question.uid,
    gids: [...(question.gids ?? [])],
    executable: question.executable ?? "",
    cgroup: question.cgroup ?? "",
    address: question.address,
    kind: `LEASE_KIND_${question.kind ?? "DEVICE"}`,
    mode: `LEASE_MODE_${question.mode ?? "HAND_OFF"}`,
    delegate: question.delegate ?? false,
  };
}

export function decodePolicyAnswer(wire: TestPolicyResponse__Output): PolicyAnswer {
  const { allowed, rule, reason, message, allowDeviceScope, allowUnreset, maxDuration } = wire;
  return {
    ...{ allowed, rule, reason, message, allowDeviceScope, allowUnreset },
    steps: wire.steps.map(({ position, rule: name, matched, explanation }) => ({ position, rule: name, matched, explanation })),
    maxLeases: wire.maxLeases ?? null,
    maxDurationMs: maxDuration === null ? null : Number(maxDuration.seconds) * 1000 + Math.floor(maxDuration.nanos / 1_000_000),
  };
}

export function decodeReload({
  applied,
  problems,
  changed,
  needsRestart,
  policyRules,
  policyChanged,
}: ReloadConfigResponse__Output): ReloadAnswer {
  const plain = (changes: typeof changed): readonly SettingChange[] => changes.map(({ name, from, to }) => ({ name, from, to }));
  return { applied, problems, changed: plain(changed), needsRestart: plain(needsRestart), policyRules, policyChanged };
}

export function decodeRescan({ revision, devices }: RescanResponse__Output): RescanAnswer {
  return { revision: BigInt(revision), devices };
}
