import type { Device, DeviceFilter } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { renderDeviceList } from "../device-list.js";
import { CliError, EXIT } from "../exit-code.js";
import { writeList } from "../output.js";
import { printable } from "../printable.js";

export async function run(call: CommandCall): Promise<number> {
  const filter = filterOf(call);
  const devices = await call.withClient(async (client) => {
    const found: Device[] = [];
    for await (const device of client.devices(filter)) found.push(device);
    return found;
  });
  const missing = call.operands.filter((address) => !devices.some((device) => device.address === address));
  await writeList(
    call.terminal,
    call.format,
    devices.map((device) => ({ value: device, name: device.address })),
    () => renderDeviceList(devices, call.terminal),
  );
  // With a filter, "not listed" can mean "filtered out".
  if (missing.length > 0 && call.flags.size === 0 && !call.values.has("id")) {
    throw new CliError("notFound", `not on this host: ${missing.map(printable).join(", ")}`, "`aperturectl devices` lists all");
  }
  return EXIT.ok.code;
}

function filterOf(call: CommandCall): DeviceFilter {
  return { addresses: call.operands, leasableOnly: call.flags.has("leasable"), ...idsOf(call.values.get("id")) };
}

function idsOf(text: string | undefined): Pick<DeviceFilter, "vendorId" | "deviceId"> {
  if (text === undefined) return {};
  const match = /^([0-9a-f]{1,4})(?::([0-9a-f]{1,4}))?$/i.exec(text);
  const [, vendor, device] = match ?? [];
  if (vendor === undefined) throw new CliError("usage", `\`${printable(text)}\` is no PCI id`, "for example --id 10de or --id 10de:2342");
  return { vendorId: Number.parseInt(vendor, 16), ...(device === undefined ? {} : { deviceId: Number.parseInt(device, 16) }) };
}
