// Acquiring real VFIO devices, on a real kernel in an emulated machine (test/lab).

import { fileURLToPath } from "node:url";
import { quoted, run } from "../../lab/process.js";
import { baseline } from "../harness/baselines.js";
import { type BenchCase, type Figures, NotMeasured, type Scale } from "../harness/case.js";
import { program } from "../harness/processes.js";

const LAB = fileURLToPath(new URL("../../lab/run.js", import.meta.url));
const DEADLINE_S = 460;

async function guest(leaseClient: string, direct: string): Promise<Figures> {
  const command = [...program("lab-acquire"), leaseClient, direct, "30", "5"].map(quoted).join(" ");
  const args = [LAB, "--world", "iommufd", "--deadline", String(DEADLINE_S), "--exec", command];
  const printed = await run(process.execPath, args);
  return JSON.parse(printed.trim().split("\n").at(-1) ?? "") as Figures;
}

function row(id: string, device: string, figure: string): BenchCase["rows"][number] {
  return {
    ...{ id, measure: `acquire in the lab, iommufd, ${device}, p50`, against: "open, BIND, info, close, open, C" },
    ...{ unit: "µs", of: { side: "guest", figure }, base: { side: "guest", figure: `${figure}Direct` }, target: { atMost: 1.2 } },
  };
}

export const labCases: readonly BenchCase[] = [
  {
    name: "lab",
    rows: [row("lab-edu", "edu", "edu"), row("lab-igb", "virtual function of igb", "vf")],
    prepare: async (scale: Scale) => {
      if (scale.quick) throw new NotMeasured("boots a machine: in a full run only");
      const [leaseClient, direct] = [await baseline("lease_client"), await baseline("vfio_direct")];
      return {
        ...{ warmUp: false, rounds: 1 },
        sides: [{ name: "guest", measure: () => guest(leaseClient, direct) }],
        close: async () => undefined,
      };
    },
  },
];
