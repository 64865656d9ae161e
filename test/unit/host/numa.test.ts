// The machine's NUMA nodes, as sysfs shows them, and which of them are a GPU's.

import assert from "node:assert/strict";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { type Address, type DeviceFacts, parseAddress } from "../../../src/broker/device.js";
import type { NumaNode } from "../../../src/broker/facts.js";
import { DriverOverrides } from "../../../src/host/driver-override.js";
import { LeavingDrivers } from "../../../src/host/leaving.js";
import { initiatorsOf, nodeList } from "../../../src/host/numa.js";
import { SysfsScanner } from "../../../src/host/sysfs.js";
import { native } from "../../../src/native.js";
import { SysfsTree } from "./sysfs-tree.js";

const GPU = "0009:01:00.0";
const OTHER_GPU = "0019:01:00.0";
const NVGRACE = "nvgrace_gpu_vfio_pci";

function at(text: string): Address {
  return parseAddress(text) ?? assert.fail(text);
}

function node(id: number, kind: "SOCKET" | "INITIATOR", told = true): NumaNode {
  const socket = kind === "SOCKET";
  return { id, hasCpus: socket, hasMemory: socket, genericInitiator: told ? !socket : null, distances: [] };
}

function nodes(sockets: number, initiators: number, told = true): readonly NumaNode[] {
  return Array.from({ length: sockets + initiators }, (_, id) => node(id, id < sockets ? "SOCKET" : "INITIATOR", told));
}

test("lists of nodes: ranges and numbers, and nothing that makes no sense [pure]", () => {
  assert.deepEqual(nodeList("0-2,5,7-8"), [0, 1, 2, 5, 7, 8]);
  assert.deepEqual(nodeList(""), []);
  for (const text of ["x", "1-", "3-1", "0-99999", "1024", "0,,1", "-1", "0 1"]) assert.equal(nodeList(text), null, text);
  assert.equal(nodeList(null), null);
});

test("8 nodes for each GPU, both in order; how they were found is told [pure]", () => {
  const gpus = [at(GPU), at(OTHER_GPU)];
  const told = initiatorsOf(nodes(2, 16), gpus);
  assert.deepEqual(told.get(at(GPU))?.nodes, [2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(told.get(at(OTHER_GPU))?.nodes, [10, 11, 12, 13, 14, 15, 16, 17]);
  assert.match(told.get(at(GPU))?.source ?? "", /has_generic_initiator; 8 for each of 2 Grace GPUs, in order/);
  const old = initiatorsOf(nodes(1, 8, false), [at(GPU)]);
  assert.match(old.get(at(GPU))?.source ?? "", /nodes without processors and memory; 8 for each of 1 Grace GPU, in order/);
  assert.deepEqual(old.get(at(GPU))?.nodes, [1, 2, 3, 4, 5, 6, 7, 8]);
});

test("where the count does not fit nothing is known of any GPU [pure]", () => {
  for (const [count, gpus] of [
    [7, [GPU]],
    [9, [GPU]],
    [16, [GPU]],
    [8, [GPU, OTHER_GPU]],
    [8, []],
    [0, [GPU]],
  ] as const)
    assert.equal(initiatorsOf(nodes(2, count), gpus.map(at)).size, 0, `${count} for ${gpus.length}`);
});

test("a kernel that tells of no initiator is believed: memoryless nodes are not taken instead [pure]", () => {
  const none = nodes(1, 8).map((each) => ({ ...each, genericInitiator: false }));
  assert.equal(initiatorsOf(none, [at(GPU)]).size, 0);
});

describe("[files in a temporary folder] NUMA nodes of a scan", () => {
  let tree: SysfsTree;
  let scanner: SysfsScanner;
  const faults: string[] = [];

  beforeEach(() => {
    tree = new SysfsTree();
    faults.length = 0;
    const observer = { fault: (where: string, error: unknown) => void faults.push(`${where}: ${String(error)}`) };
    const [overrides, leaving] = [new DriverOverrides(native, tree.sysRoot, 100), new LeavingDrivers(native, tree.sysRoot, 100)];
    scanner = new SysfsScanner(native, tree.sysRoot, overrides, leaving, observer, tree.systemFiles());
  });

  afterEach(() => {
    assert.deepEqual(faults, []);
    tree.remove();
  });

  async function scanned(): Promise<ReadonlyMap<string, DeviceFacts>> {
    return new Map((await scanner.scan()).map((facts) => [facts.address, facts]));
  }

  function machine(files: Readonly<Record<string, string>>, rows: readonly string[]): void {
    const folder = join(tree.sysRoot, "devices/system/node");
    mkdirSync(folder, { recursive: true });
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), `${text}\n`);
    for (const [id, row] of rows.entries()) {
      mkdirSync(join(folder, `node${id}`), { recursive: true });
      writeFileSync(join(folder, `node${id}/distance`), `${row}\n`);
    }
  }

  const GRACE = { online: "0-8", has_cpu: "0", has_memory: "0", has_generic_initiator: "1-8" } as const;
  const ROW = "10 80 80 80 80 80 80 80 80";

  test("a machine without the folder has no nodes, and its devices no initiators", async () => {
    tree.add(GPU, { driver: NVGRACE, vfio: 0, group: 1 });
    assert.equal((await scanned()).get(GPU)?.genericInitiators, null);
    assert.deepEqual(scanner.numaNodes, []);
  });

  test("nodes with what they have and how far they are; the GPU's are the driver's word", async () => {
    machine(GRACE, [ROW, ...Array<string>(8).fill("80 10 10 10 10 10 10 10 10")]);
    tree.add(GPU, { driver: NVGRACE, vfio: 0, group: 1, numaNode: "0" });
    tree.add("0000:01:00.0", { driver: "vfio-pci", vfio: 1, group: 2 });
    const all = await scanned();
    assert.deepEqual(all.get(GPU)?.genericInitiators?.nodes, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.equal(all.get("0000:01:00.0")?.genericInitiators, null);
    assert.deepEqual(
      scanner.numaNodes.map(({ id, hasCpus, hasMemory, genericInitiator }) => [id, hasCpus, hasMemory, genericInitiator]),
      [[0, true, true, false], ...[1, 2, 3, 4, 5, 6, 7, 8].map((id) => [id, false, false, true])],
    );
    assert.deepEqual(scanner.numaNodes[0]?.distances[3], { node: 3, distance: 80 });
  });

  test("a GPU that another driver has counts by the kernel's driver table, and one that comes later changes the answer", async () => {
    machine(GRACE, Array<string>(9).fill(ROW));
    mkdirSync(join(tree.root, "modules"));
    writeFileSync(join(tree.root, "modules/modules.alias"), `alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* ${NVGRACE}\n`);
    tree.add(GPU, { vendor: "0x10de", device: "0x2342", driver: "nvidia" });
    assert.equal((await scanned()).get(GPU)?.genericInitiators?.nodes.length, 8);
    tree.add(OTHER_GPU, { vendor: "0x10de", device: "0x2342", driver: NVGRACE, vfio: 0, group: 2 });
    const both = await scanned();
    assert.deepEqual([both.get(GPU)?.genericInitiators, both.get(OTHER_GPU)?.genericInitiators], [null, null]);
  });

  test("rows that do not fit the nodes, and lists that make no sense, are not there", async () => {
    machine({ ...GRACE, has_cpu: "zero" }, ["10 80", ...Array<string>(8).fill(ROW)]);
    await scanned();
    assert.deepEqual([scanner.numaNodes[0]?.distances, scanner.numaNodes[0]?.hasCpus], [[], null]);
    assert.equal(scanner.numaNodes[1]?.distances.length, 9);
  });

  test("extended GPU memory by its links or by its list, with its size", async () => {
    const egm = join(tree.sysRoot, "class/egm");
    tree.add(GPU, { driver: NVGRACE, vfio: 0, group: 1 });
    tree.add(OTHER_GPU, { driver: NVGRACE, vfio: 1, group: 2 });
    for (const name of ["egm4", "egm5", "stranger"]) mkdirSync(join(egm, name), { recursive: true });
    writeFileSync(join(egm, "egm4/egm_size"), "0x1000000000\n");
    symlinkSync(tree.folder(GPU), join(egm, "egm4", GPU));
    writeFileSync(join(egm, "egm5/gpu_devices"), `${OTHER_GPU}\n0029:01:00.0\n`);
    const all = await scanned();
    assert.deepEqual(all.get(GPU)?.extendedMemory, { name: "egm4", size: 0x10_0000_0000n, gpus: [GPU] });
    assert.deepEqual(all.get(OTHER_GPU)?.extendedMemory, { name: "egm5", size: null, gpus: [OTHER_GPU, "0029:01:00.0"] });
    rmSync(egm, { recursive: true });
    assert.equal((await scanned()).get(GPU)?.extendedMemory, null);
  });
});
