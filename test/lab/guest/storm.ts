// More messages of the kernel's than anybody can read: the daemon serves meanwhile, and learns of every change, also of those whose messages were dropped.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { afterEach, before, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { HostChange } from "../../../src/broker/ports.js";
import { connect } from "../../../src/client/index.js";
import { CapabilityTable } from "../../../src/host/capability-table.js";
import { Uevents } from "../../../src/host/uevents.js";
import { native } from "../../../src/native.js";
import { edu, ivshmem, testdev } from "../devices.js";
import { folderOf, unbind } from "./binding.js";
import { type LiveDaemon, reasons } from "./live-daemon.js";
import { dropsOf } from "./uevent-socket.js";

const STORM = fileURLToPath(new URL("../clients/uevent-storm.js", import.meta.url));
const MESSAGES = 20_000;
/** More than fit into the socket, several times. */
const TOO_MANY = 200_000;

/** Makes messages about the device until this process's socket has lost some. */
function overrun(pid: number): void {
  const before = dropsOf(pid);
  const file = openSync(join(folderOf(ivshmem.address), "uevent"), "r+");
  try {
    for (let n = 0; n < TOO_MANY && dropsOf(pid) === before; n += 500) for (let i = 0; i < 500; i += 1) writeSync(file, "change");
  } finally {
    closeSync(file);
  }
  assert.ok(dropsOf(pid) > before, `${TOO_MANY} messages fitted into the socket`);
}

async function bindAgain(live: LiveDaemon, address: string): Promise<void> {
  writeFileSync("/sys/bus/pci/drivers_probe", address);
  await live.leasable(address);
}

/** Tests of a storm of uevents, inside the suite that starts the daemon. */
export function storms(daemon: () => LiveDaemon): void {
  let live: LiveDaemon;
  before(() => {
    live = daemon();
  });
  afterEach(async () => {
    live.daemon.signal("SIGCONT");
    await live.isAsBefore();
  });

  const withoutDriver = (address: string): Promise<unknown> =>
    live.becomes("without driver", address, (device) => device?.driver === "" && reasons(device) !== "DEVICE_LEAVING");

  it(`of ${MESSAGES} about three devices: everybody is answered meanwhile, and a change that comes after it is seen`, async (t) => {
    const begin = performance.now();
    const storm = spawn(process.execPath, [STORM, String(MESSAGES), edu.address, testdev.address, ivshmem.address], { stdio: "inherit" });
    let over = false;
    const ended = once(storm, "exit").then(([status]) => {
      over = true;
      return status as unknown;
    });
    const late = await connect({ socket: live.daemon.socket, timeoutMs: 60_000 });
    assert.equal((await late.device(testdev.address)).state, "FREE");
    assert.ok(!over, "nobody was answered before the storm was over");
    let answers = 1;
    for (; !over; answers += 2) await Promise.all([live.observer.device(edu.address), late.device(testdev.address)]);
    await late.close();
    assert.equal(await ended, 0);
    t.diagnostic(`${Math.round(performance.now() - begin)} ms, ${answers} answers, ${dropsOf(live.daemon.pid)} lost`);
    await unbind(edu.address).done;
    await withoutDriver(edu.address);
    await bindAgain(live, edu.address);
  });

  it("that the daemon's socket has no room for: a change whose messages were dropped is seen without a rescan", async (t) => {
    const { pid } = live.daemon;
    live.daemon.signal("SIGSTOP");
    overrun(pid);
    const lost = dropsOf(pid);
    await unbind(edu.address).done;
    const more = dropsOf(pid) - lost;
    assert.ok(more > 0, "the change itself was not dropped");
    live.daemon.signal("SIGCONT");
    await withoutDriver(edu.address);
    t.diagnostic(`${lost} messages lost, and ${more} of the change`);
    await bindAgain(live, edu.address);
  });

  it("goes on being lost, and is told no more, until the socket is read empty: then everything is read again", async () => {
    const told: HostChange[] = [];
    let wake = (): void => {};
    const uevents = new Uevents({
      calls: native,
      poll: {
        watchReadable: (_fd, to) => {
          wake = to;
          return { value: 1, error: null };
        },
        remove: () => {},
      },
      capabilities: new CapabilityTable({ uevents: "not asked" } as never),
      observer: { fault: (_where, error) => assert.fail(String(error)) },
      tell: (change) => told.push(change),
    });
    uevents.open();
    try {
      overrun(process.pid);
      wake();
      assert.deepEqual(told, [{ kind: "ALL" }]);
      const before = dropsOf(process.pid);
      writeFileSync(join(folderOf(edu.address), "uevent"), "change");
      assert.equal(dropsOf(process.pid), before + 1);
      for (let n = 0; n < TOO_MANY && told.filter(({ kind }) => kind === "ALL").length < 2; n += 1) wake();
      assert.deepEqual(told.at(-1), { kind: "ALL" });
      const batches = told.length;
      writeFileSync(join(folderOf(edu.address), "uevent"), "change");
      wake();
      assert.deepEqual(told.slice(batches), [{ kind: "DEVICES", addresses: [edu.address] }]);
      wake();
      assert.equal(told.length, batches + 1);
    } finally {
      uevents.close();
    }
  });
}
