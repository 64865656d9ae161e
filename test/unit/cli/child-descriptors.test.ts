import assert from "node:assert/strict";
import { test } from "node:test";
import { checkPlaceholders, descriptorEnvironment, substituteDescriptors } from "../../../src/cli/child-descriptors.js";
import { CliError } from "../../../src/cli/exit-code.js";
import type { DescriptorInfo } from "../../../src/client/index.js";

const A = "0000:01:00.0";
const B = "0000:02:00.0";

function info(kind: DescriptorInfo["kind"], parts: Partial<DescriptorInfo> = {}): DescriptorInfo {
  return { kind, scope: "DEVICE", address: null, region: null, group: null, offset: 0n, size: 0n, ...parts };
}

const IOMMUFD_ONE = [info("IOMMUFD"), info("DEVICE_UNBOUND", { address: A })];
const IOMMUFD_TWO = [...IOMMUFD_ONE, info("DEVICE_UNBOUND", { address: B })];
const LEGACY = [info("CONTAINER"), info("GROUP", { group: 7 }), info("GROUP", { group: 9 }), info("DEVICE", { address: A })];
const REGIONS = [
  info("REGION", { address: A, region: 2 }),
  info("REGION", { address: A, region: 4 }),
  info("REGION", { address: B, region: 2 }),
];

function refused(argument: string, descriptors: readonly DescriptorInfo[], message: RegExp, next: RegExp): void {
  assert.throws(
    () => substituteDescriptors([argument], descriptors),
    (error: unknown) => {
      assert.ok(error instanceof CliError && error.exit === "conflict", String(error));
      assert.match(error.message, message);
      assert.match(error.next ?? "", next);
      return true;
    },
  );
}

test("words become numbers from 3, inside arguments too [pure]", () => {
  assert.deepEqual(
    substituteDescriptors(
      ["-object", "iommufd,id=i,fd=@iommufd", "-device", "vfio-pci,fd=@device,iommufd=i", "@iommufd/@device"],
      IOMMUFD_ONE,
    ),
    ["-object", "iommufd,id=i,fd=3", "-device", "vfio-pci,fd=4,iommufd=i", "3/4"],
  );
  assert.deepEqual(substituteDescriptors([`@device:${B}`, `fd=@device:${A},x=1`], IOMMUFD_TWO), ["5", "fd=4,x=1"]);
  assert.deepEqual(substituteDescriptors(["@container", "@group:9", "@group:7", "@device"], LEGACY), ["3", "5", "4", "6"]);
  assert.deepEqual(substituteDescriptors(["@region:4", `@region:${B}:2`], REGIONS), ["4", "5"]);
  assert.deepEqual(substituteDescriptors(["@region"], [REGIONS[1] ?? info("REGION")]), ["3"]);
});

test("what only looks like a word stays [pure]", () => {
  const same = [
    "user@device.example",
    "user@device",
    "mail@group",
    "a@device:0",
    "x@@device",
    "@device.json",
    "@",
    "@@",
    "@@@",
    "@foo",
    "@@foo",
    "@5",
    "@args.txt",
  ];
  assert.deepEqual(substituteDescriptors(same, IOMMUFD_ONE), same);
  assert.deepEqual(substituteDescriptors(["@@device", "x=@@iommufd", "@@devcie", `@@device:${A}`], IOMMUFD_ONE), [
    "@device",
    "x=@iommufd",
    "@devcie",
    `@device:${A}`,
  ]);
});

test("a word that is nearly one is refused as usage, with what was meant and how to write it plainly [pure]", () => {
  const near: readonly (readonly [string, RegExp])[] = [
    ["@devcie", /did you mean `@device`\? or write `@@devcie`/],
    ["vfio-pci,fd=@devices,x=1", /did you mean `@device`/],
    ["@iommufd-x", /did you mean `@iommufd`/],
    ["@Device", /did you mean `@device`/],
    ["@region4", /did you mean `@region`/],
    ["@region:4x", /for example @device:0000:01:00\.0 or @region:4, or write `@@region:4x`/],
    ["@device:0000:1:00.0", /for example/],
    ["@device:", /for example/],
    ["@device:0000:01:00.0:", /for example/],
  ];
  for (const [argument, next] of near) {
    for (const check of [
      (): unknown => substituteDescriptors([argument], IOMMUFD_ONE),
      (): unknown => checkPlaceholders(["program", argument], [A]),
      (): unknown => checkPlaceholders([argument], null),
    ]) {
      assert.throws(
        check,
        (error: unknown) => error instanceof CliError && error.exit === "usage" && next.test(error.next ?? ""),
        argument,
      );
    }
  }
});

test("what cannot be right is refused before anything is leased [pure]", () => {
  const usage = (argument: string, addresses: readonly string[], message: RegExp): void => {
    assert.throws(
      () => checkPlaceholders([argument], addresses),
      (error: unknown) => error instanceof CliError && error.exit === "usage" && message.test(error.message),
      argument,
    );
  };
  usage(`@device:${B}`, [A], /not to be leased/);
  usage("fd=@device", [A, B], /any of 2 devices/);
  checkPlaceholders(["@device", `@device:${B}`, "@group", "@iommufd", "@container", "@region:4"], null);
  checkPlaceholders([`@device:${B}`, `@region:${A}:2`, "@group", "@iommufd", "@container"], [A, B]);
});

test("a number with leading zeroes or of many digits finds nothing and breaks nothing [pure]", () => {
  refused("@region:999999999", REGIONS, /no descriptor/, /@region/);
  assert.throws(() => substituteDescriptors(["@region:9999999999"], REGIONS), /does not end in an address or a number/);
});

test("a word without a descriptor, or with several, is refused with what there is [pure]", () => {
  refused("@container", IOMMUFD_ONE, /no descriptor for @container/, /@iommufd, @device:0000:01:00\.0/);
  refused("@device", IOMMUFD_TWO, /any of 2/, /@device:0000:02:00\.0/);
  refused(`@device:${B}`, IOMMUFD_ONE, /no descriptor/, /@device/);
  refused("@group", LEGACY, /any of 2/, /@group:7/);
  refused("@region:2", REGIONS, /any of 2/, /@region:0000:01:00\.0:4/);
  refused("@region:5", REGIONS, /no descriptor/, /@region/);
  refused("@iommufd:3", IOMMUFD_ONE, /no descriptor for @iommufd:3/, /@iommufd/);
});

test("the environment names every descriptor, and briefly what there is one of [pure]", () => {
  assert.deepEqual(descriptorEnvironment("L", IOMMUFD_ONE), {
    APERTURE_LEASE: "L",
    APERTURE_FD_IOMMUFD: "3",
    APERTURE_FD_DEVICE: "4",
    APERTURE_FD_DEVICE_0000_01_00_0: "4",
  });
  assert.deepEqual(descriptorEnvironment("L", IOMMUFD_TWO), {
    APERTURE_LEASE: "L",
    APERTURE_FD_IOMMUFD: "3",
    APERTURE_FD_DEVICE_0000_01_00_0: "4",
    APERTURE_FD_DEVICE_0000_02_00_0: "5",
  });
  assert.deepEqual(descriptorEnvironment("L", LEGACY), {
    APERTURE_LEASE: "L",
    APERTURE_FD_CONTAINER: "3",
    APERTURE_FD_GROUP_7: "4",
    APERTURE_FD_GROUP_9: "5",
    APERTURE_FD_DEVICE: "6",
    APERTURE_FD_DEVICE_0000_01_00_0: "6",
  });
  assert.equal(descriptorEnvironment("L", REGIONS)["APERTURE_FD_REGION_0000_02_00_0_2"], "5");
});
