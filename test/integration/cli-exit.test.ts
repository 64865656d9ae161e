// Each exit code of the table, really produced by a process.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { EXIT, type ExitName } from "../../src/cli/exit-code.js";
import { aperturectl, CliProcess, type CliResult } from "../harness/cli.js";
import { DaemonProcess } from "../harness/daemon.js";
import { FakeDaemon } from "../unit/client/fake-daemon.js";

const GPU = "0009:01:00.0";
const NVME = "0000:02:00.0";

describe("[real processes, simulated host] exit codes of aperturectl", () => {
  let daemon: DaemonProcess;
  let folder: string;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "aperture-exit-"));
    const allow = `[[policy]]\nname = "all but one"\ndevice = "*"\n`;
    const deny = `[[policy]]\nname = "not this one"\ndevice = "0000:41:01.0"\nkind = []\n`;
    daemon = await DaemonProcess.start({ config: `[limits]\nleases_per_uid = 2\n${deny}${allow}` });
  });
  afterEach(async () => {
    await CliProcess.killAll();
    await daemon.isAsBefore();
  });
  after(async () => {
    await daemon.stop();
    rmSync(folder, { recursive: true });
  });

  const run = (...args: readonly string[]): Promise<CliResult> => aperturectl(daemon.socket, args);

  async function held(address: string): Promise<void> {
    const holder = new CliProcess(daemon.socket, ["acquire", address]);
    await holder.message(/holding lease/);
  }

  async function faked(script: (fake: FakeDaemon) => void, ...args: readonly string[]): Promise<CliResult> {
    const fake = await FakeDaemon.start();
    try {
      script(fake);
      return await aperturectl(fake.socketPath, args);
    } finally {
      fake.stop();
    }
  }

  const PRODUCED: Readonly<Record<ExitName, { readonly by: () => Promise<CliResult>; readonly says: RegExp }>> = {
    ok: { by: () => run("devices"), says: /SIMULATED HOST/ },
    failed: { by: () => faked(() => undefined, "leases"), says: /UNIMPLEMENTED/ },
    usage: { by: () => run("devcies"), says: /did you mean `devices`\?/ },
    notFound: { by: () => run("device", "0000:99:00.0"), says: /next: .*\n +reason: DEVICE_NOT_FOUND/ },
    denied: { by: () => run("acquire", "0000:41:01.0"), says: /"not this one"[\s\S]*reason: POLICY_DENIED/ },
    unavailable: { by: () => aperturectl("/nonexistent/a.sock", ["devices"]), says: /ENOENT[\s\S]*next: start the daemon/ },
    conflict: { by: () => run("acquire", "0000:01:00.0"), says: /nvme[\s\S]*reason: NO_VFIO_DRIVER/ },
    exhausted: {
      by: () =>
        held(GPU)
          .then(() => held("0019:01:00.0"))
          .then(() => run("acquire", NVME)),
      says: /reason: LEASE_QUOTA/,
    },
    timeout: {
      by: () =>
        faked(
          (fake) => {
            fake.acquire = () => new Promise(() => undefined);
          },
          ...["acquire", NVME, "--timeout", "0.3"],
        ),
      says: /did not answer AcquireLease within 0\.3 s/,
    },
    notExecutable: {
      by: () => {
        const file = join(folder, "plain");
        writeFileSync(file, "");
        return run("exec", NVME, "--", file);
      },
      says: /cannot be executed/,
    },
    commandNotFound: { by: () => run("exec", NVME, "--", "no-such-command"), says: /there is no command/ },
  };

  for (const [name, { by, says }] of Object.entries(PRODUCED)) {
    const { code, when } = EXIT[name as ExitName];
    it(`${code}: ${when}`, async () => {
      const result = await by();
      assert.equal(result.code, code, result.err);
      assert.match(result.err, says);
      if (code !== 0) assert.equal(result.out, "", "a failure prints no data");
    });
  }

  it("a device that is taken: 6, with who has it in the words of explain", async () => {
    await held(GPU);
    const busy = await run("acquire", GPU);
    assert.equal(busy.code, EXIT.conflict.code);
    assert.match(busy.err, /reason: DEVICE_BUSY/);
    const explained = await run("explain", GPU);
    assert.equal(explained.code, EXIT.conflict.code);
    assert.match(explained.out, /can be leased, but not now\n[\s\S]*HELD\n {2}lease [0-9a-f-]{36} of process \d+, uid \d+/);
    const broken = await run("explain", "0000:01:00.0");
    assert.equal(broken.code, EXIT.conflict.code);
    assert.match(broken.out, /echo vfio-pci > \/sys\/bus\/pci\/devices\/0000:01:00\.0\/driver_override/);
  });
});
