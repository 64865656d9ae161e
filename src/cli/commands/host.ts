import type { HostInfo } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { EXIT } from "../exit-code.js";
import { writeOne } from "../output.js";
import { type Cell, renderFacts, renderTable } from "../table.js";
import type { Look } from "../terminal.js";

export async function run(call: CommandCall): Promise<number> {
  const { host, socket } = await call.withClient(async (client) => ({ host: client.host, socket: client.socketPath }));
  await writeOne(call.terminal, call.format, { value: host, name: host.instanceId }, () => renderHost(host, socket, call.terminal));
  return EXIT.ok.code;
}

function renderHost(host: HostInfo, socket: string, look: Look): string {
  const facts = renderFacts(
    [
      ["daemon", `apertured ${host.version}, since ${host.startTime?.toISOString() ?? "an unknown time"}`],
      ["instance", host.instanceId],
      ["socket", socket],
      ["descriptor channel", host.channelPath],
      ["kernel", host.kernelRelease],
      ["back end", host.simulated ? { text: `${host.backend} (not real hardware)`, colour: "yellow" } : host.backend],
      ["because", host.backendReason],
    ],
    look,
  );
  const capabilities = renderTable(
    [{ title: "CAPABILITY" }, { title: "ANSWER" }, { title: "HOW IT WAS ASKED" }],
    host.capabilities.map(({ name, availability, detail }) => [name, availabilityCell(availability), detail]),
    look,
  );
  const limits = renderTable(
    [{ title: "LIMIT" }, { title: "VALUE", align: "right" }, { title: "UNIT" }],
    host.limits.map(({ name, value, unit }) => [name, value.toString(), unit]),
    look,
  );
  return [facts, numaNodes(host, look), capabilities, limits].filter((part) => part !== "").join("\n");
}

function numaNodes({ numaNodes: nodes }: HostInfo, look: Look): string {
  if (nodes.length === 0) return "";
  const yes = (known: boolean | null): string => (known === null ? "not known" : known ? "yes" : "no");
  return renderTable(
    [{ title: "NODE", align: "right" }, { title: "PROCESSORS" }, { title: "MEMORY" }, { title: "INITIATOR" }, { title: "DISTANCES" }],
    nodes.map(({ id, hasCpus, hasMemory, genericInitiator, distances }) => [
      ...[String(id), yes(hasCpus), yes(hasMemory), yes(genericInitiator)],
      distances.map(({ distance }) => distance).join(" "),
    ]),
    look,
  );
}

function availabilityCell(availability: string): Cell {
  return { text: availability, colour: availability === "AVAILABLE" ? "green" : "plain" };
}
