// native/client on a real kernel: a process in C, of another user and without gRPC, is handed devices by ticket, binds them, maps them and gives them back. What it is
// told when it does things in the wrong order is the kernel's own answer, which docs/VMM-AUTHORS.md quotes.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { after, afterEach, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { EXAMPLES } from "../../harness/c-programs.js";
import { DaemonProcess } from "../../harness/daemon.js";
import { LeaseBench } from "../../harness/lease-bench.js";
import { TenantProcess } from "../../harness/tenant.js";
import { edu, graceHopper, igbVfs, testdev } from "../devices.js";
import { world } from "./world.js";

const TENANT = 65534;
const MiB = 1 << 20;
const EINVAL = -22;
const KINDS = world === "iommufd" ? [1, 2] : [3, 4, 5];
const WAIT_MS = 60_000;

// Nothing here is about time, and emulated processors are slow.
const CONFIG = `inventory.rescan_ms = 600000
[limits]
ack_ms = 60000
first_call_ms = 60000
retry_min_ms = 100
[[policy]]
name = "all"
uid = [0]
device = "*"
allow_unreset = true
delegate = true
`;

describe("[lab kernel] the client in C", () => {
  let daemon: DaemonProcess;
  let bench: LeaseBench;
  let tenant: TenantProcess;
  before(async () => {
    daemon = await DaemonProcess.start({ host: "auto", config: CONFIG });
    bench = await LeaseBench.at(daemon);
    tenant = await TenantProcess.start(daemon.socket, { uid: TENANT });
    daemon.rebase();
  });
  afterEach(async () => {
    await daemon.isAsBefore();
  });
  after(async () => {
    await TenantProcess.killAll();
    bench.close();
    await daemon.stop();
  });

  /** Hands a lease to the tenant by ticket; the kinds of its descriptors. */
  async function hand(...addresses: readonly string[]): Promise<{ readonly id: string; readonly kinds: readonly number[] }> {
    const devices = addresses.map((address) => ({ address }));
    const { id, ticket } = await bench.reserved("", { devices, ticket: { uid: TENANT } });
    const offer = await tenant.must(`show ${ticket.toString("hex")}`);
    assert.deepEqual([offer["event"], offer["lease"], offer["backend"]], ["OFFER", id, world === "iommufd" ? 1 : 2]);
    await tenant.must("accept");
    return { id, kinds: (offer["descriptors"] as { kind: number }[]).map((descriptor) => descriptor.kind) };
  }

  async function giveBack(id: string, ...addresses: readonly string[]): Promise<void> {
    await tenant.must("unmap");
    await tenant.must("close");
    assert.equal((await bench.release(id)).code, "OK");
    assert.equal((await tenant.must("wait"))["event"], "ENDED");
    for (const address of addresses) await bench.becomes(address, "FREE", WAIT_MS);
  }

  it("drives edu: bound once, mapped, and told SIGBUS while the device's memory is off", async () => {
    const { address } = edu;
    const { id, kinds } = await hand(address);
    assert.deepEqual(kinds, KINDS);
    if (world === "iommufd") {
      assert.equal((await tenant.say(`region ${address} 0`))["error"], EINVAL, "before BIND every other request");
      await tenant.must(`bind ${address}`);
      assert.equal((await tenant.say(`bind ${address}`))["error"], EINVAL, "a second BIND");
    }
    // The kernel says whose a descriptor is since 7.2.
    assert.equal((await tenant.must(`whose ${address}`))["address"], world === "iommufd" ? address : "");
    const region = await tenant.must(`region ${address} 0`);
    assert.deepEqual([region["size"], region["backed"], region["areas"]], [String(MiB), String(MiB), [["0", String(MiB)]]]);
    assert.equal((await tenant.say(`region ${address} 8`))["error"], EINVAL, "VGA, which it has not");
    assert.deepEqual((await tenant.must(`map ${address} 0 1`))["vmas"], [`rw-s ${MiB}`]);
    assert.equal((await tenant.must("load 0"))["value"], 0x010000ed);
    // A register that reads the inverse of what was written.
    await tenant.must("poke 4 78563412");
    assert.equal((await tenant.must("peek 4 4"))["hex"], "87a9cbed");
    assert.equal((await tenant.must("read 0 4"))["hex"], "ed000001");

    // The command register's memory enable, off and on again.
    await tenant.must(`config ${address} 4 0000`);
    assert.equal((await tenant.must("load 0"))["signal"], "SIGBUS");
    assert.match(String((await tenant.say("read 0 4"))["text"]), /Input\/output error/, "by descriptor it is an error, no signal");
    await tenant.must(`config ${address} 4 0200`);
    assert.equal((await tenant.must("load 0"))["value"], 0x010000ed, "the same mapping, usable again");
    await giveBack(id, address);
  });

  it("maps 256 MiB of pci-testdev in one piece, aligned for large pages", async () => {
    const { address } = testdev;
    const { id } = await hand(address);
    if (world === "iommufd") await tenant.must(`bind ${address}`);
    // First, since the tenant remembers its last mapping only, also one that failed.
    assert.match(String((await tenant.say(`map ${address} 1 1`))["text"]), /nothing of the region can be mapped/, "I/O ports");
    const mapped = await tenant.must(`map ${address} 2 1`);
    assert.deepEqual(mapped["vmas"], [`rw-s ${256 * MiB}`]);
    assert.equal(BigInt(String(mapped["base"])) % BigInt(2 * MiB), 0n);
    await giveBack(id, address);
  });

  it("maps the padded apertures of the Grace Hopper: two mappings each, the driver's own tail", {
    skip: world !== "iommufd" && "Debian's kernel has no nvgrace driver",
  }, async () => {
    const { address } = graceHopper;
    const { id } = await hand(address);
    await tenant.must(`bind ${address}`);
    for (const [index, size, backed] of [
      [2, 0x80000000, 0x50000000],
      [4, 0x40000000, 0x20000000],
    ] as const) {
      const region = await tenant.must(`region ${address} ${index}`);
      assert.deepEqual([region["size"], region["backed"], region["areas"]], [String(size), String(backed), [["0", String(backed)]]]);
      const mapped = await tenant.must(`map ${address} ${index} 1`);
      assert.deepEqual(mapped["vmas"], [`rw-s ${backed}`, `---p ${size - backed}`]);
      assert.equal(BigInt(String(mapped["base"])) % (1n << 30n), 0n);
      const last = backed - 4;
      await tenant.must(`poke ${last} 0${index}eeffc0`);
      // For region 2 the driver's own answer to this is a short count.
      assert.equal((await tenant.must(`read ${last} 8`))["hex"], `0${index}eeffc0ffffffff`);
      assert.equal((await tenant.must(`peek ${last} 8`))["hex"], `0${index}eeffc0ffffffff`);
      assert.equal((await tenant.must(`write ${last} 0${index}000001aaaaaaaa`))["count"], 8);
      assert.equal((await tenant.must(`load ${last}`))["value"], 0x01000000 + index);
      assert.equal((await tenant.must(`read ${backed} 4`))["hex"], "ffffffff", "what was written behind the end was dropped");
      await tenant.must("unmap");
      assert.deepEqual((await tenant.must(`map ${address} ${index} 2`))["vmas"], [`r--s ${backed}`, `r--p ${size - backed}`]);
      assert.equal((await tenant.must(`load ${backed}`))["value"], 0, "the readable tail");
      await tenant.must("unmap");
    }
    await giveBack(id, address);
  });

  it("binds two virtual functions of one lease to its one iommufd, and is reset by its exit", async () => {
    const addresses = igbVfs.map((vf) => vf.address);
    const { kinds } = await hand(...addresses);
    assert.deepEqual(kinds, world === "iommufd" ? [1, 2, 2] : [3, 4, 4, 5, 5]);
    for (const address of addresses) {
      if (world === "iommufd") await tenant.must(`bind ${address}`);
      await tenant.must(`map ${address} 0 1`);
      await tenant.must("peek 8 4");
      await tenant.must("unmap");
    }
    await tenant.exit();
    for (const address of addresses) await bench.becomes(address, "FREE", WAIT_MS);
    tenant = await TenantProcess.start(daemon.socket, { uid: TENANT });
  });

  for (const { language, command } of EXAMPLES) {
    it(`hands edu to the page's program in ${language}`, async () => {
      const { id, ticket } = await bench.reserved(edu.address, { ticket: { uid: TENANT } });
      const [program = "", ...args] = command;
      const { stdout } = await promisify(execFile)(program, [...args, daemon.socket, ticket.toString("hex"), "0"], {
        uid: TENANT,
        gid: TENANT,
        timeout: 120_000,
      });
      assert.equal(stdout, `${id} 0 ${MiB} ${MiB} 0x010000ed\n`);
      await bench.becomes(edu.address, "FREE", WAIT_MS);
    });
  }
});
