// Choosing a back end by what is below /dev and /sys. Real kernels are the lab's; here are the ways in which it cannot work.

import assert from "node:assert/strict";
import { chmodSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { type Chosen, chooseHost, type HostChoice } from "../../../src/host/choose.js";
import { openDescriptors } from "../../contract/client-side.js";
import { SysfsTree } from "./sysfs-tree.js";

describe("[files in a temporary folder] choosing the host", () => {
  let tree: SysfsTree;
  let open: number;
  beforeEach(() => {
    open = openDescriptors();
    tree = new SysfsTree();
  });
  afterEach(() => {
    tree.remove();
    assert.equal(openDescriptors(), open);
  });

  function choose(host: HostChoice): Promise<Chosen> {
    return chooseHost({ host, sysRoot: tree.sysRoot, devRoot: tree.devRoot, observer: { fault: () => undefined } });
  }

  async function errorOf(host: HostChoice): Promise<string> {
    const { error } = await choose(host);
    assert.ok(error !== null, "there should be an error");
    assert.ok(error.what.length > 0 && error.next.length > 0);
    return `${error.what} | ${error.why} | ${error.next}`;
  }

  async function simulatedReason(host: HostChoice): Promise<string> {
    const chosen = await choose(host);
    assert.equal(chosen.error, null, chosen.error?.why);
    assert.equal(chosen.host?.backend, "SIMULATED");
    await chosen.host?.close();
    return chosen.reason ?? "";
  }

  test("no VFIO device: simulated, with the reason", async () => {
    tree.add("0000:01:00.0", { driver: "nvme", group: 1 });
    assert.match(await simulatedReason("auto"), /no device of this machine has a VFIO driver/);
  });

  test("simulated on request, whatever is there", async () => {
    tree.add("0000:01:00.0", { driver: "vfio-pci", vfio: 0, group: 1 });
    assert.match(await simulatedReason("simulated"), /configuration/);
  });

  test("a VFIO device without any node is an error, not a simulation", async () => {
    tree.add("0000:01:00.0", { driver: "vfio-pci", vfio: 0, group: 1 });
    assert.match(await errorOf("auto"), /0000:01:00\.0 has a VFIO driver, but there is no node.*container/);
  });

  test("iommufd without /dev/iommu; without a device bound it is a start, and with one that has no node it is none", async () => {
    assert.match(await errorOf("iommufd"), /\/iommu does not exist.*CONFIG_IOMMUFD.*host = "legacy"/);
    tree.node("iommu");
    assert.match(await errorOf("iommufd"), /IOMMU_OPTION.*ENOTTY/);
    tree.add("0000:00:10.0", { driver: "vfio-pci", vfio: 0 });
    assert.match(await errorOf("iommufd"), /nothing in .*vfio\/devices/);
  });

  test("legacy without /dev/vfio/vfio", async () => {
    assert.match(await errorOf("legacy"), /vfio\/vfio does not exist.*vfio_iommu_type1/);
    tree.node("vfio/7");
    assert.match(await errorOf("auto"), /vfio\/vfio does not exist/);
  });

  test("nodes that are no VFIO nodes are named with the call that failed", async () => {
    tree.node("iommu");
    tree.node("vfio/devices/vfio0");
    assert.match(await errorOf("auto"), /IOMMU_OPTION.*ENOTTY/);
    tree.node("vfio/vfio");
    assert.match(await errorOf("legacy"), /VFIO_GET_API_VERSION.*ENOTTY/);
  });

  test("nodes that are closed to this user are an error with owner and mode, never a simulation", async () => {
    for (const node of ["vfio/vfio", "vfio/7", "iommu", "vfio/devices/vfio0"]) tree.node(node, 0);
    chmodSync(tree.root, 0o755);
    const owner = process.getuid?.() ?? 0;
    await asNobody(async () => {
      for (const [host, node] of [
        ["auto", "iommu"],
        ["iommufd", "iommu"],
        ["legacy", "vfio/vfio"],
      ] as const) {
        const { error } = await choose(host);
        assert.equal(error?.what, `this daemon may not open ${join(tree.devRoot, node)}`);
        assert.match(error.why, new RegExp(`belongs to uid ${owner}, .*mode 00; this process has uid ${process.geteuid?.()}`));
        assert.match(error.next, /udev/);
      }
    });
    chmodSync(join(tree.devRoot, "iommu"), 0o666);
    await asNobody(async () => {
      assert.equal((await choose("auto")).error?.what, `this daemon may not open ${join(tree.devRoot, "vfio/devices/vfio0")}`);
    });
    chmodSync(join(tree.devRoot, "vfio"), 0);
    await asNobody(async () => {
      assert.match((await choose("auto")).error?.what ?? "", /cannot be listed/);
    });
    chmodSync(join(tree.devRoot, "vfio"), 0o755);
  });
});

/** As root nothing is closed: then work is done with another effective uid. */
async function asNobody(work: () => Promise<void>): Promise<void> {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65534);
  try {
    await work();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}
