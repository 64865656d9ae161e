import type { HeldLease } from "../../client/index.js";
import { CloudHypervisor, type Plugged, QemuMonitor } from "../../push/index.js";
import type { CommandCall } from "../command.js";
import { CliError, EXIT } from "../exit-code.js";
import { type Interruption, interruption } from "../interruption.js";
import { endedByItself, withLease } from "../lease-session.js";
import { seconds } from "../lease-target.js";
import { writeOne } from "../output.js";
import { printable } from "../printable.js";
import { withProgress } from "../progress.js";

/** A connection to a VMM. */
interface Vmm {
  plug(lease: HeldLease): Promise<Plugged>;
  close(): void;
}

export async function run(call: CommandCall): Promise<number> {
  const connect = vmmOf(call);
  const unplugMs = seconds(call.values.get("unplug-timeout"), "unplug-timeout");
  // Before a device is taken, and reset, for a VM that is not there.
  const vmm = await connect();
  const interrupted = interruption();
  try {
    return await withLease(call, async (lease) => {
      const what = lease.devices.map(({ address }) => address).join(" ");
      const plugged = await withProgress(call.terminal, `plugging ${what} into the VM`, vmm.plug(lease));
      await show(call, lease, plugged);
      return await hold(call, lease, plugged, interrupted, unplugMs);
    });
  } finally {
    interrupted.stop();
    vmm.close();
  }
}

/** Everything that the command line can have wrong is found here. Throws CliError (usage). */
function vmmOf({ values, operands, timeoutMs }: CommandCall): () => Promise<Vmm> {
  const [qmp, api] = [values.get("qmp"), values.get("cloud-hypervisor")];
  const ids = list(values.get("id"), "id", operands.length);
  const buses = list(values.get("bus"), "bus", operands.length);
  const answer = timeoutMs === undefined ? {} : { answerMs: timeoutMs };
  const names = ids === undefined ? {} : { ids };
  if (qmp !== undefined && api === undefined) {
    return async () => {
      const monitor = await QemuMonitor.connect({ socket: qmp, ...answer });
      const options = { ...names, ...(buses === undefined ? {} : { buses }) };
      return { plug: (lease) => monitor.plug(lease, options), close: () => monitor.close() };
    };
  }
  if (api !== undefined && qmp === undefined) {
    if (buses !== undefined) throw new CliError("usage", "--bus is QEMU's; Cloud Hypervisor chooses the place by itself");
    return async () => {
      const vmm = await CloudHypervisor.connect({ socket: api, ...answer });
      return { plug: (lease) => vmm.plug(lease, names), close: () => vmm.close() };
    };
  }
  throw new CliError("usage", "which VM? Name its socket with one of --qmp and --cloud-hypervisor");
}

/** devices 0: a ticket will tell how many. */
function list(text: string | undefined, option: string, devices: number): readonly string[] | undefined {
  if (text === undefined) return undefined;
  const names = text.split(",");
  const wrong = names.find((name) => !/^[a-z][\w.-]*$/i.test(name));
  if (wrong !== undefined)
    throw new CliError("usage", `--${option}: \`${printable(wrong)}\` is no name: a letter, then letters, digits, \`-\`, \`.\` and \`_\``);
  if (devices > 0 && names.length !== devices) throw new CliError("usage", `--${option} has ${names.length} names for ${devices} devices`);
  return names;
}

async function show(call: CommandCall, lease: HeldLease, { devices }: Plugged): Promise<void> {
  await writeOne(call.terminal, call.format, { value: { id: lease.id, devices }, name: lease.id }, () =>
    devices.map(({ address, id }) => `${address} is ${id} in the VM\n`).join(""),
  );
  call.terminal.message(
    `holding lease ${lease.id} in process ${process.pid}; Ctrl-C or SIGTERM takes its devices out of the VM and gives it back`,
  );
}

async function hold(
  call: CommandCall,
  lease: HeldLease,
  plugged: Plugged,
  interrupted: Interruption,
  unplugMs: number | undefined,
): Promise<number> {
  const asked = interrupted.first.then(() => "ASKED" as const);
  const recalled = lease.recalled.then(() => "RECALLED" as const);
  let over = false;
  const ended = lease.ended.then(({ cause }) => {
    // Its end by this command is none to tell.
    if (over) return "ENDED" as const;
    call.terminal.message(`aperturectl: ${endedByItself(lease, cause)}`, "red");
    // A daemon that restarts is no reason to take a device from a VM.
    return cause === "CHANNEL_CLOSED" ? Promise.race([asked, plugged.gone]) : ("ENDED" as const);
  });
  const why = await Promise.race([asked, recalled, ended, plugged.gone]);
  over = true;
  if (why === "VMM_GONE" || why === "UNPLUGGED") {
    const said = why === "VMM_GONE" ? "the VM has ended, or has closed its socket" : "the VM has let go of the devices";
    call.terminal.message(`aperturectl: ${said}; lease ${lease.id} is given back`);
    return EXIT.ok.code;
  }
  await takeOut(call, plugged, interrupted, unplugMs);
  return why === "ASKED" ? EXIT.ok.code : EXIT.conflict.code;
}

async function takeOut(call: CommandCall, plugged: Plugged, interrupted: Interruption, unplugMs: number | undefined): Promise<void> {
  const out = plugged.unplug(unplugMs === undefined ? {} : { timeoutMs: unplugMs }).then(() => true);
  const what = plugged.devices.map(({ id }) => id).join(" ");
  const done = await withProgress(
    call.terminal,
    `taking ${what} out of the VM: its guest has to let go`,
    Promise.race([out, interrupted.second.then(() => false)]),
  );
  if (done) return;
  out.catch(() => undefined);
  throw new CliError(
    "conflict",
    `asked twice to end: the VM may still have ${what}`,
    "the devices stay in quarantine until the VMM has closed them",
  );
}
