// `aperturectl exec --for qemu`: a real QEMU on real devices, as a user who may open nothing of VFIO. Its guest is not run: what is asked is whether QEMU takes the arguments, binds the devices and
// maps the guest's memory. nested.test.ts boots one.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { after, before, describe, it } from "node:test";
import { aperturectl, CLI } from "../../harness/cli.js";
import { DaemonProcess, daemonEnvironment } from "../../harness/daemon.js";
import { until } from "../../harness/until.js";
import { edu, graceHopper, igbVfs, type LabDevice } from "../devices.js";
import { world } from "./world.js";

const CONFIG = `[limits]
ack_ms = 60000
first_call_ms = 60000
[[policy]]
name = "all"
device = "*"
allow_unreset = true
`;
const USER = 65534;
const MIB = 1024 * 1024;
/** Enough for 64 MiB of guest, and nothing like what the BARs of the fake Grace Hopper are. */
const ENOUGH = 256 * MIB;
const LITTLE = 8 * MIB;

interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

describe("[lab kernel] exec --for qemu", () => {
  let daemon: DaemonProcess;
  before(async () => {
    daemon = await DaemonProcess.start({ host: "auto", config: CONFIG });
  });
  after(() => daemon.stop());

  /** With a guest of 64 MiB that does not run; asks for the devices' names and ends. */
  async function qemu(devices: readonly LabDevice[], memlock: number): Promise<Ended> {
    const addresses = devices.map(({ address }) => address);
    const vmm = ["qemu-system-x86_64", "-M", "q35", "-m", "64M", "-S", "-nodefaults", "-display", "none", "-qmp", "stdio", "@args"];
    const ctl = [process.execPath, CLI, "--socket", daemon.socket, "--timeout", "120", "exec", ...addresses, "--for", "qemu", "--", ...vmm];
    const user = ["setpriv", `--reuid=${USER}`, `--regid=${USER}`, "--clear-groups"];
    const child = spawn("prlimit", [`--memlock=${memlock}:${memlock}`, ...user, ...ctl], { env: daemonEnvironment() });
    child.stdin.on("error", () => undefined);
    const commands = [
      { execute: "qmp_capabilities" },
      { execute: "qom-list", arguments: { path: "/machine/peripheral" } },
      { execute: "quit" },
    ];
    child.stdin.end(commands.map((command) => JSON.stringify(command)).join("\n"));
    const [out, err, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    return { code: code as number | null, out, err };
  }

  async function free(devices: readonly LabDevice[]): Promise<void> {
    for (const { address } of devices)
      await until(
        address,
        async () => (JSON.parse((await aperturectl(daemon.socket, ["device", address, "-o", "json"])).out) as { state: string }).state,
        (state) => state === "FREE",
        120_000,
      );
  }

  if (world === "legacy") {
    it("is refused where devices are owned through the container, before anything is leased", async () => {
      const { code, err } = await qemu([edu], ENOUGH);
      assert.equal(code, 6, err);
      assert.match(err, /VMM_NEEDS_IOMMUFD/);
    });
    return;
  }

  it("binds three devices to one iommufd, and the lease ends with it", async () => {
    const devices = [edu, ...igbVfs];
    const { code, out, err } = await qemu(devices, ENOUGH);
    assert.equal(code, 0, err);
    assert.doesNotMatch(err, /RLIMIT_MEMLOCK/);
    for (const { address } of devices) assert.ok(out.includes(`"vfio-${address.replace(/[:.]/g, "-")}"`), out);
    await free(devices);
  });

  it("shows the fake Grace Hopper's padded BARs to QEMU", async () => {
    const { code, out, err } = await qemu([graceHopper], ENOUGH);
    assert.equal(code, 0, err);
    // The BARs are counted, because some kernels do; this one does not.
    assert.match(err, /needs RLIMIT_MEMLOCK of 19\d{8} bytes/);
    assert.ok(out.includes('"vfio-0000-00-14-0"'), out);
    await free([graceHopper]);
  });

  it("says how much has to be locked where it may not raise the limit; QEMU's failure is the command's", async () => {
    const { code, err } = await qemu([edu], LITTLE);
    assert.equal(code, 1, err);
    assert.match(err, /needs RLIMIT_MEMLOCK of 74868326 bytes .*the limit is 8 MiB/s);
    assert.match(err, /vfio-0000-00-10-0.*Cannot allocate memory/s);
    await free([edu]);
  });
});
