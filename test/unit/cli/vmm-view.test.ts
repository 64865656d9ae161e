// How arguments for a VMM are shown to people.

import assert from "node:assert/strict";
import { test } from "node:test";
import { plainLines, renderArguments } from "../../../src/cli/vmm-view.js";
import type { VmmArguments } from "../../../src/client/index.js";
import { PLAIN } from "./captured-terminal.js";

const MADE: VmmArguments = {
  ...{ vmm: "CLOUD_HYPERVISOR", leastVersion: "53.0", form: "ARGUMENTS", devices: [], memlock: { bytes: 1n << 30n, source: "reckoned" } },
  fragments: [
    {
      place: "the devices",
      lines: ["--device", "fd=@device,id=a", "fd=@device,id=b"],
      values: [{ name: "fd", value: "@device", source: "the lease" }],
    },
    { place: "nodes", lines: ["--numa", "distances=[0@80]"], values: [] },
  ],
  notes: [
    { kind: "TO_DO", text: "start it" },
    { kind: "LEFT_OUT", text: "distances\u001b[2J" },
  ],
};

test("an option with its values is one line that a shell takes, the values' sources follow, then what is left to do [pure]", () => {
  const text = renderArguments(MADE, PLAIN);
  assert.ok(text.startsWith("--device fd=@device,id=a fd=@device,id=b \\\n--numa 'distances=[0@80]'\n\n"), text);
  assert.match(text, /the devices\n +fd +@device +the lease\n/);
  assert.match(text, /to lock: RLIMIT_MEMLOCK 1073741824 \(0x40000000 1 GiB\): reckoned\n/);
  assert.match(text, /needs: Cloud Hypervisor 53\.0 or later\n\nto do: start it\n\nleft out: distances\\x1b\[2J\n$/);
});

test("lines alone: one argument a line, as they are [pure]", () => {
  assert.equal(plainLines(MADE), "--device\nfd=@device,id=a\nfd=@device,id=b\n--numa\ndistances=[0@80]\n");
});

test("of XML and YAML each part says where it goes [pure]", () => {
  const fragments = [{ place: "<domain>", lines: ["<iommufd/>"], values: [] }];
  assert.match(renderArguments({ ...MADE, form: "XML", fragments }, PLAIN), /^<!-- in <domain> -->\n<iommufd\/>\n/);
  assert.match(renderArguments({ ...MADE, form: "YAML", fragments }, PLAIN), /^# <domain>\n<iommufd\/>\n/);
});
