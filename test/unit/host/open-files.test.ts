// Open files counted on real files of a temporary folder: the kernel's inotify, not a VFIO device's.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { Address } from "../../../src/broker/device.js";
import { CapabilityTable } from "../../../src/host/capability-table.js";
import { OpenFiles } from "../../../src/host/open-files.js";
import { native } from "../../../src/native.js";
import { PollSet } from "../../../src/poll-set.js";
import { until } from "../../harness/until.js";
import { inFolder, leavesNoDescriptor } from "../native/support.js";

const A = "0000:00:01.0" as Address;

interface Counted {
  readonly files: OpenFiles;
  readonly node: string;
  readonly closed: string[];
  readonly capabilities: CapabilityTable;
}

async function counted(use: (counted: Counted) => Promise<void>): Promise<void> {
  await leavesNoDescriptor(() =>
    inFolder(async (folder) => {
      const node = join(folder, "vfio0");
      writeFileSync(node, "");
      const poll = new PollSet((error) => assert.fail(String(error)));
      const capabilities = new CapabilityTable({ open_count: "not asked" } as never);
      const closed: string[] = [];
      const observer = { fault: (_where: string, error: unknown) => assert.fail(String(error)) };
      const files = new OpenFiles({ calls: native, poll, capabilities, observer, closed: (address) => closed.push(address) });
      files.open();
      files.watch(node, A);
      try {
        await use({ files, node, closed, capabilities });
      } finally {
        files.close();
        poll.close();
      }
    }),
  );
}

describe("[real processes] open files of a node", () => {
  it("are counted from the moment it is watched, also when a child inherits them", async () => {
    await counted(async ({ files, node, closed, capabilities }) => {
      assert.equal(capabilities.get("open_count"), "AVAILABLE");
      assert.equal(files.count(A), 0);
      assert.equal(files.count("0000:00:02.0" as Address), null);
      const file = openSync(node, "r+");
      assert.equal(files.count(A), 1);
      const child = spawn("cat", { stdio: ["pipe", "ignore", "inherit", file] });
      await once(child, "spawn");
      closeSync(file);
      assert.equal(files.count(A), 1);
      child.stdin?.end();
      // Told by the poll set, not asked.
      await until(
        "closed",
        () => closed.length,
        (length) => length === 1,
      );
      assert.equal(files.count(A), 0);
      if (child.exitCode === null) await once(child, "exit");
    });
  });

  it("that were open before are not in the count and do not bring it below nothing; a reader's close wakes nobody", async () => {
    await inFolder(async (folder) => {
      const node = join(folder, "vfio0");
      writeFileSync(node, "");
      const before = openSync(node, "r+");
      const poll = new PollSet((error) => assert.fail(String(error)));
      const closed: string[] = [];
      const files = new OpenFiles({
        ...{ calls: native, poll, observer: { fault: () => assert.fail() }, closed: (address: Address) => closed.push(address) },
        capabilities: new CapabilityTable({ open_count: "not asked" } as never),
      });
      files.open();
      files.watch(node, A);
      closeSync(before);
      assert.equal(files.count(A), 0);
      const reader = openSync(node, "r");
      assert.equal(files.count(A), 1);
      closeSync(reader);
      assert.equal(files.count(A), 0);
      assert.deepEqual(closed, [A]);
      files.close();
      assert.equal(files.count(A), null);
      poll.close();
    });
  });

  it("of a node that was made anew are counted anew", async () => {
    await counted(async ({ files, node }) => {
      const old = openSync(node, "r+");
      assert.equal(files.count(A), 1);
      unlinkSync(node);
      writeFileSync(node, "");
      files.watch(node, A);
      const fresh = openSync(node, "r+");
      closeSync(old);
      assert.equal(files.count(A), 1);
      closeSync(fresh);
      assert.equal(files.count(A), 0);
    });
  });

  it("are unknown where the kernel counts none, and a loss of events is told", () => {
    const capabilities = new CapabilityTable({ open_count: "not asked" } as never);
    let events = [
      { watch: 1, mask: 0x20 },
      { watch: -1, mask: 0x4000 },
    ];
    const faults: unknown[] = [];
    const make = (ok: boolean): OpenFiles =>
      new OpenFiles({
        calls: {
          inotifyCreate: () =>
            ok ? native.eventfdCreate() : { value: null, error: { operation: "inotify_init1", errno: 24, code: "EMFILE", subject: "" } },
          inotifyWatch: () => ({ value: 1, error: null }),
          inotifyRead: () => ({ value: events, error: null }),
        },
        poll: { watchReadable: () => ({ value: 1, error: null }), remove: () => undefined },
        ...{ capabilities, observer: { fault: (_where: string, error: unknown) => faults.push(error) }, closed: () => undefined },
      });
    const none = make(false);
    none.open();
    none.watch("/dev/vfio/devices/vfio0", A);
    assert.deepEqual([none.count(A), capabilities.get("open_count")], [null, "UNAVAILABLE"]);
    const some = make(true);
    some.open();
    some.watch("/dev/vfio/devices/vfio0", A);
    assert.equal(some.count(A), 0);
    assert.deepEqual([capabilities.get("open_count"), faults.length], ["UNKNOWN", 1]);
    events = [];
    some.close();
  });
});
