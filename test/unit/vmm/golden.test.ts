// What each VMM is given for three kinds of device, word by word. The files of golden/ are read by people when they change: WRITE_GOLDEN=1 writes them anew.

import assert from "node:assert/strict";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import type { KnownDevice } from "../../../src/broker/ports.js";
import type { Vmm, VmmArguments, VmmHost } from "../../../src/broker/vmm.js";
import { vmmArguments } from "../../../src/vmm/arguments.js";
import { EDU, GRACE_HOST, gh200, IGB_PAIR, options, PC_HOST } from "./devices.js";

const FOLDER = fileURLToPath(new URL("../../../../test/unit/vmm/golden/", import.meta.url));
const VMMS: readonly Vmm[] = ["QEMU", "CLOUD_HYPERVISOR", "LIBVIRT", "KUBEVIRT", "OPENVMM"];
const CASES: Readonly<Record<string, readonly [readonly KnownDevice[], VmmHost]>> = {
  edu: [[EDU], PC_HOST],
  "igb-vf-pair": [IGB_PAIR, PC_HOST],
  "grace-hopper": [[gh200()], GRACE_HOST],
};

function written({ vmm, leastVersion, form, fragments, notes, devices, memlock }: VmmArguments): string {
  return [
    `${vmm} ${leastVersion} ${form}`,
    ...fragments.flatMap(({ place, lines, values }) => [
      `\n[${place}]`,
      ...lines,
      ...values.map(({ name, value, source }) => `  ${name} = ${value} from ${source}`),
    ]),
    "",
    ...notes.map(({ kind, text }) => `${kind}: ${text}`),
    ...devices.map(({ address, id, guestNodes }) => `${address} is ${id}, guest nodes: ${guestNodes.join(" ")}`),
    `memlock: ${memlock?.bytes}, ${memlock?.source}`,
    "",
  ].join("\n");
}

for (const [name, [devices, host]] of Object.entries(CASES))
  for (const vmm of VMMS)
    test(`${name} for ${vmm} [pure]`, () => {
      const made = vmmArguments(options(vmm, { guestMemory: 4n << 30n, resourceName: "example.com/gpu" }), devices, host);
      const text = written(made.value ?? assert.fail(made.refusal?.message));
      const file = `${FOLDER}${name}.${vmm.toLowerCase()}.txt`;
      if (process.env["WRITE_GOLDEN"] === "1") writeFileSync(file, text);
      assert.equal(text, existsSync(file) ? readFileSync(file, "utf8") : "");
    });
