// Names and driver candidates out of the system's lists: made-up excerpts in the real forms, and lists that are missing, damaged or not what they should be.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import { DeviceWords, kindOf } from "../../../src/host/device-words.js";
import { withBound } from "../../../src/host/driver-candidates.js";
import type { IdNumbers } from "../../../src/host/pci-ids.js";

const GH200: IdNumbers = { vendorId: 0x10de, deviceId: 0x2342, classCode: 0x030200, subsystem: { vendorId: 0x10de, deviceId: 0x16eb } };
const NVME: IdNumbers = { vendorId: 0x144d, deviceId: 0xa80a, classCode: 0x010802, subsystem: { vendorId: 0x144d, deviceId: 0xa801 } };
const UNKNOWN: IdNumbers = { vendorId: 0xfffe, deviceId: 1, classCode: 0xff0000, subsystem: null };

const PCI_IDS = `#
#	List of PCI ID's

0001  SafeNet (wrong ID)
	2342  Not this one
10de  NVIDIA Corporation
# a comment between a vendor and its devices
	1eb8  TU104GL [Tesla T4]
	2342  GH100 [GH200 120GB / 480GB]
		10de 16eb  GH200 board
		1028 16eb  Not this board
	2345  Other
		10de 16eb  Not this board either
144d  Samsung Electronics Co Ltd
	a80a  NVMe SSD Controller PM9A1/PM9A3/980PRO
		144d a801  SSD 980 PRO

C 01  Mass storage controller
	08  Non-Volatile memory controller
		01  NVMHCI
		02  NVM Express
C 03  Display controller
	00  VGA compatible controller
	02  3D controller
`;

const ALIASES = `# Aliases extracted from modules themselves.
alias usb:v10DEp2342d*dc*dsc*dp*ic*isc*ip*in* not_pci
alias pci:v000010DEd*sv*sd*bc03sc02i00* nouveau
alias pci:v000010DEd*sv*sd*bc03sc00i00* nouveau
alias pci:v*d*sv*sd*bc01sc08i02* nvme
alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci
alias vfio_pci:v000010DEd00002342sv*sd*bc*sc*i* nvgrace_gpu_vfio_pci
alias vfio_pci:v000010DEd*sv*sd*bc*sc*i* made_up_vfio_pci
alias pci:v000010DEd00002342sv000010DEsd000016EBbc*sc*i* closest
alias pci:v0000144Dd0000A80Asv*sd*bc*sc*i* nvme
`;

describe("[files in a temporary folder] words for devices", () => {
  let root: string;
  let words: DeviceWords;

  function put(name: string, content: string | Uint8Array): void {
    mkdirSync(join(root, name, ".."), { recursive: true });
    writeFileSync(join(root, name), content);
  }

  async function learn(...kinds: readonly IdNumbers[]) {
    await words.learn(new Map(kinds.map((ids) => [kindOf(ids), ids])));
    return kinds.map((ids) => words.of(kindOf(ids)));
  }

  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "aperture-words-"));
    const files = { pciIds: [join(root, "first/pci.ids"), join(root, "second/pci.ids")], modules: join(root, "modules") };
    words = new DeviceWords(join(root, "sys"), files);
  });

  afterEach(() => rmSync(root, { recursive: true, force: true }));

  test("names of vendor, device, board and class, each of its own place in the list", async () => {
    put("second/pci.ids", PCI_IDS);
    const [gh200, nvme, unknown] = await learn(GH200, NVME, UNKNOWN);
    assert.deepEqual(gh200?.names, {
      baseClass: "Display controller",
      subclass: "3D controller",
      programmingInterface: "",
      vendor: "NVIDIA Corporation",
      device: "GH100 [GH200 120GB / 480GB]",
      subsystemVendor: "NVIDIA Corporation",
      subsystem: "GH200 board",
      source: join(root, "second/pci.ids"),
    });
    assert.deepEqual(
      [nvme?.names?.subclass, nvme?.names?.programmingInterface, nvme?.names?.subsystem],
      ["Non-Volatile memory controller", "NVM Express", "SSD 980 PRO"],
    );
    assert.equal(unknown?.names, null);
  });

  test("the first list that knows anything is used", async () => {
    put("first/pci.ids", "10de  From the first\n");
    put("second/pci.ids", PCI_IDS);
    assert.equal((await learn(GH200))[0]?.names?.vendor, "From the first");
  });

  test("drivers: variant before plain VFIO before the host's, the closest alias of each, the modules' names as the drivers are called", async () => {
    put("modules/modules.alias", ALIASES);
    const [gh200, nvme, unknown] = await learn(GH200, NVME, UNKNOWN);
    assert.deepEqual(
      gh200?.candidates.map(({ driver, module, kind, source }) => [driver, module, kind, source]),
      [
        ["nvgrace_gpu_vfio_pci", "nvgrace_gpu_vfio_pci", "VFIO_VARIANT", "MODULES_ALIAS"],
        ["made_up_vfio_pci", "made_up_vfio_pci", "VFIO_VARIANT", "MODULES_ALIAS"],
        ["vfio-pci", "vfio_pci", "VFIO_GENERIC", "MODULES_ALIAS"],
        ["closest", "closest", "HOST", "MODULES_ALIAS"],
        ["nouveau", "nouveau", "HOST", "MODULES_ALIAS"],
      ],
    );
    assert.deepEqual(
      nvme?.candidates.map(({ driver, alias }) => [driver, alias]),
      [
        ["vfio-pci", "vfio_pci:v*d*sv*sd*bc*sc*i*"],
        ["nvme", "pci:v0000144Dd0000A80Asv*sd*bc*sc*i*"],
      ],
    );
    assert.deepEqual(
      unknown?.candidates.map(({ driver }) => driver),
      ["vfio-pci"],
    );
  });

  test("drivers that are built in: by modules.builtin.modinfo, by their registration, by being bound", async () => {
    put(
      "modules/modules.builtin.modinfo",
      [
        "vfio_pci.license=GPL v2",
        "nvgrace_gpu_vfio_pci.alias=vfio_pci:v000010DEd00002342sv*sd*bc*sc*i*",
        "nvme.alias=pci:v*d*sv*sd*bc01sc08i02*",
        "",
      ].join("\0"),
    );
    mkdirSync(join(root, "sys/bus/pci/drivers/vfio-pci"), { recursive: true });
    mkdirSync(join(root, "sys/bus/pci/drivers/mlx5_vfio_pci"), { recursive: true });
    const [gh200, nvme] = await learn(GH200, NVME);
    assert.deepEqual(
      gh200?.candidates.map(({ driver, kind, source }) => [driver, kind, source]),
      [
        ["nvgrace_gpu_vfio_pci", "VFIO_VARIANT", "MODULES_BUILTIN"],
        ["vfio-pci", "VFIO_GENERIC", "REGISTERED"],
      ],
    );
    assert.deepEqual(
      withBound(nvme?.candidates ?? [], "made_up", true).map(({ driver, kind }) => [driver, kind]),
      [
        ["made_up", "VFIO_VARIANT"],
        ["vfio-pci", "VFIO_GENERIC"],
        ["nvme", "HOST"],
      ],
    );
    assert.equal(withBound(nvme?.candidates ?? [], "nvme", false), nvme?.candidates);
    assert.equal(withBound(nvme?.candidates ?? [], "other", false).at(-1)?.kind, "HOST");
  });

  test("a module that is loaded tells its driver's name", async () => {
    put("modules/modules.alias", "alias pci:v000010DEd*sv*sd*bc03sc*i* made_up\n");
    mkdirSync(join(root, "sys/module/made_up/drivers/pci:made-up"), { recursive: true });
    assert.equal((await learn(GH200))[0]?.candidates[0]?.driver, "made-up");
  });

  test("modules that are installed later are found; what was learned is not looked up again", async () => {
    put("second/pci.ids", PCI_IDS);
    put("modules/modules.alias", "# none yet\n");
    const [before] = await learn(GH200);
    assert.deepEqual(before?.candidates, []);
    rmSync(join(root, "second"), { recursive: true });
    const [same] = await learn(GH200);
    assert.equal(same, before, "read once");
    put("modules/modules.alias", ALIASES);
    assert.equal((await learn(GH200))[0]?.candidates[0]?.driver, "nvgrace_gpu_vfio_pci");
  });

  test("kinds that are no longer there are forgotten", async () => {
    put("second/pci.ids", PCI_IDS);
    await learn(GH200, NVME);
    await learn(NVME);
    assert.equal(words.of(kindOf(GH200)).names, null);
    assert.equal(words.of(kindOf(NVME)).names?.device, "NVMe SSD Controller PM9A1/PM9A3/980PRO");
  });

  for (const [name, content] of [
    ["nothing", ""],
    ["binary", Uint8Array.from({ length: 100_000 }, (_, index) => (index * 7919) & 0xff)],
    ["one line of a megabyte", "x".repeat(1 << 20)],
    ["rows without their vendors", "\t2342  Orphan\n\t\t10de 16eb  Orphan\n"],
    ["an unknown section", "S 10de  no vendor\n\t2342  of no vendor\n"],
  ] as const) {
    test(`a list that holds ${name} gives no names and no drivers, and no error`, async () => {
      put("first/pci.ids", content);
      put("modules/modules.alias", content);
      put("modules/modules.builtin.modinfo", content);
      assert.deepEqual(await learn(GH200), [{ names: null, candidates: [] }]);
    });
  }

  test("a line that is too long is left out with all of it, and those around it stand", async () => {
    const long = "y".repeat(300_000);
    put("first/pci.ids", `10de  NVIDIA Corporation\n\t2342  ${long}\n\t\t10de 16eb  Board\n144d  Samsung\n`);
    const [gh200, nvme] = await learn(GH200, NVME);
    assert.equal(gh200?.names?.device, "");
    assert.equal(nvme?.names?.vendor, "Samsung");
  });

  test("names cannot steer a terminal, nor fill it", async () => {
    put("first/pci.ids", `10de  NVIDIA\u001b[2J\u202e Corporation\n\t2342  ${"z".repeat(1000)}\n`);
    const [gh200] = await learn(GH200);
    assert.equal(gh200?.names?.vendor, "NVIDIA[2J Corporation");
    assert.equal(gh200?.names?.device.length, 128);
  });

  test("a FIFO in place of a list is not waited for", async () => {
    mkdirSync(join(root, "first"));
    mkdirSync(join(root, "modules"));
    execFileSync("mkfifo", [join(root, "first/pci.ids"), join(root, "modules/modules.alias")]);
    put("second/pci.ids", PCI_IDS);
    assert.equal((await learn(GH200))[0]?.names?.vendor, "NVIDIA Corporation");
  });

  test("aliases of other forms are no aliases", async () => {
    put(
      "modules/modules.alias",
      [
        "alias pci:v000010DEd00002342 short",
        "alias pci:v000010ded*sv*sd*bc*sc*i* lower",
        "alias pci:v*d*sv*sd*bc*sc*i* ../../evil",
        "alias",
        "pci:v*",
        "",
      ].join("\n"),
    );
    assert.deepEqual((await learn(GH200))[0]?.candidates, []);
  });
});
