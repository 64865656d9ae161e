// The lab itself: is this the machine that every other test expects?

import assert from "node:assert/strict";
import { existsSync, statSync } from "node:fs";
import { release } from "node:os";
import { describe, test } from "node:test";
import { allDevices, isolatedDevices, sharedGroups } from "../devices.js";
import { attribute, barSizes, groupMembers, ids, linkName, vfioNode } from "./sysfs.js";
import { world } from "./world.js";

function isCharacterDevice(path: string): boolean {
  return existsSync(path) && statSync(path).isCharacterDevice();
}

describe("the guest", () => {
  test("is the world it says it is", () => {
    assert.match(release(), world === "iommufd" ? /-lab$/ : /^6\.12\.\d+\+deb13(\.\d+)?-amd64$/);
  });

  test("runs the host's Node as root", () => {
    assert.equal(process.getuid?.(), 0);
    assert.equal(Number(process.versions.node.split(".")[0]) >= 20, true, process.version);
  });

  test("has the VFIO interfaces of its world and no others", () => {
    assert.equal(isCharacterDevice("/dev/vfio/vfio"), true, "/dev/vfio/vfio");
    assert.equal(isCharacterDevice("/dev/iommu"), world === "iommufd", "/dev/iommu");
    assert.equal(existsSync("/dev/vfio/devices"), world === "iommufd", "/dev/vfio/devices");
  });
});

for (const device of allDevices) {
  const { address } = device;
  const driver = device.driver[world];

  describe(`${address} (${device.ids})`, () => {
    test("is there, with its ids, its BARs and its reset methods", () => {
      assert.equal(ids(address), device.ids);
      assert.deepEqual(barSizes(address), device.bars);
      assert.deepEqual((attribute(address, "reset_method") ?? "").split(" ").filter(Boolean), device.resetMethods);
    });

    test(`is bound to ${driver ?? "no driver"}`, () => {
      assert.equal(linkName(address, "driver"), driver);
    });

    test("has the VFIO nodes that its driver brings", () => {
      const onVfio = driver?.includes("vfio") === true;
      const node = vfioNode(address);
      assert.equal(node !== null && isCharacterDevice(`/dev/vfio/devices/${node}`), onVfio && world === "iommufd", "its own node");
      const group = linkName(address, "iommu_group");
      const groupOnVfio = allDevices.some(
        (other) => other.driver[world]?.includes("vfio") === true && linkName(other.address, "iommu_group") === group,
      );
      assert.equal(isCharacterDevice(`/dev/vfio/${group}`), groupOnVfio, "its group's node");
    });
  });
}

describe("IOMMU groups", () => {
  test("isolated devices are alone in theirs", () => {
    for (const { address } of isolatedDevices) assert.deepEqual(groupMembers(address), [address]);
  });

  test("functions of one slot share one", () => {
    for (const group of sharedGroups) {
      const addresses = group.map((device) => device.address);
      for (const address of addresses) assert.deepEqual(groupMembers(address), addresses);
    }
  });
});
