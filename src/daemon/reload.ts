// A reload: SIGHUP, or HostService.ReloadConfig. Everything is read and judged before anything is applied, so that a bad file changes nothing. The few small files are
// read on the event loop: that takes a millisecond, and nobody is served by a half-new policy meanwhile.

import type { Inventory } from "../broker/inventory.js";
import type { Leases } from "../broker/leases.js";
import type { PolicyRule } from "../broker/policy.js";
import type { ReloadReport } from "../rpc/host-service.js";
import type { Log } from "../telemetry/log.js";
import type { Metrics } from "../telemetry/metrics.js";
import type { ConfigOutcome } from "./config.js";
import { warningsOf } from "./config-check.js";
import type { LiveSettings } from "./live-settings.js";
import { checkDescriptorLimit } from "./start-checks.js";

export interface ReloadDeps {
  readonly live: LiveSettings;
  readonly leases: Pick<Leases, "policy" | "setPolicy">;
  readonly inventory: Pick<Inventory, "setPeerSets">;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly load: () => ConfigOutcome;
  /** Tells the parts that keep a setting of their own (a timer, the log's level). */
  readonly onApplied: () => void;
}

export function makeReload({ live, leases, inventory, log, metrics, load, onApplied }: ReloadDeps): () => ReloadReport {
  const refused = (problems: readonly string[]): ReloadReport => {
    metrics.reload("refused");
    for (const problem of problems)
      log.write("config.refused", { why: problem }, "the configuration was not reloaded: everything stays as it was");
    return { problems, changed: [], needsRestart: [], policyRules: leases.policy.length, policyChanged: false };
  };
  return () => {
    const outcome = load();
    if (outcome.problems) return refused(outcome.problems);
    const { config } = outcome;
    const limit = checkDescriptorLimit(config.settings);
    if (limit !== null) return refused([limit]);
    const { changed, needsRestart } = live.apply(config);
    const policyChanged = !samePolicy(leases.policy, config.policy);
    leases.setPolicy(config.policy);
    inventory.setPeerSets(config.peers.map(({ set }) => set));
    onApplied();
    metrics.reload("applied");
    const names = (changes: typeof changed): readonly string[] => changes.map(({ name, from, to }) => `${name}: ${from} -> ${to}`);
    const fields = {
      changed: names(changed),
      needs_restart: names(needsRestart),
      policy_changed: policyChanged ? 1 : 0,
      policy_rules: config.policy.length,
    };
    log.write("config.reloaded", fields, "the configuration was reloaded");
    for (const warning of warningsOf(config)) log.write("config.warning", { why: warning }, "the configuration may hold a mistake");
    return { problems: [], changed, needsRestart, policyRules: config.policy.length, policyChanged };
  };
}

function samePolicy(before: readonly PolicyRule[], after: readonly PolicyRule[]): boolean {
  return JSON.stringify(before) === JSON.stringify(after);
}
