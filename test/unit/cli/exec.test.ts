// exec when its device goes between the lease and the command: nothing is started. A client made of promises, because no real device goes at that moment on request.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import type { CommandCall } from "../../../src/cli/command.js";
import { run } from "../../../src/cli/commands/exec.js";
import { CliError } from "../../../src/cli/exit-code.js";
import type { ApertureClient, HeldLease, LeaseEnd } from "../../../src/client/index.js";
import { CapturedTerminal } from "./captured-terminal.js";

describe("[pure, and a real command] exec", () => {
  const folder = mkdtempSync(join(tmpdir(), "aperture-exec-"));
  after(() => rmSync(folder, { recursive: true, force: true }));

  async function exec(ended: Promise<LeaseEnd>, file: string): Promise<{ readonly outcome: unknown; readonly releases: number }> {
    let releases = 0;
    const lease = {
      ...{ id: "00000000-0000-4000-8000-000000000001", descriptors: [], ended, onRecalled: () => () => undefined },
      closeDescriptors: async () => undefined,
      release: async () => {
        releases += 1;
        return { quarantined: [] };
      },
    } as unknown as HeldLease;
    const client = { acquire: async () => lease } as unknown as ApertureClient;
    const call: CommandCall = {
      ...{ operands: ["0000:02:00.0"], command: ["touch", file], values: new Map(), flags: new Set(), format: "table" },
      ...{ terminal: new CapturedTerminal().terminal, timeoutMs: undefined, withClient: (work) => work(client) },
    };
    const outcome = await run(call).catch((error: unknown) => error);
    return { outcome, releases };
  }

  it("starts nothing when the lease has ended by then, says so, and undoes the rest", async () => {
    const file = join(folder, "gone");
    const { outcome, releases } = await exec(Promise.resolve({ cause: "DEVICE_REMOVED" }), file);
    assert.ok(outcome instanceof CliError, String(outcome));
    assert.equal(outcome.exit, "conflict");
    assert.match(outcome.message, /has ended: DEVICE_REMOVED, before the command was started/);
    assert.equal(existsSync(file), false);
    assert.equal(releases, 1);
  });

  it("runs the command while the lease goes on", async () => {
    const file = join(folder, "there");
    assert.deepEqual(await exec(new Promise(() => undefined), file), { outcome: 0, releases: 1 });
    assert.equal(existsSync(file), true);
  });
});
