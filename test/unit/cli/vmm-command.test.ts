// What `exec --for` reads of a VMM's command line, and what it refuses.

import assert from "node:assert/strict";
import { test } from "node:test";
import { CliError } from "../../../src/cli/exit-code.js";
import {
  checkArgsWord,
  guestMemory,
  isOlder,
  isProgramOf,
  machineOfProgram,
  versionIn,
  withArguments,
} from "../../../src/cli/vmm-command.js";
import { bytesOf, vmmOptions } from "../../../src/cli/vmm-options.js";
import { shellWord } from "../../../src/cli/vmm-view.js";

const GIB = 1n << 30n;

function usage(work: () => unknown, message: RegExp): void {
  assert.throws(
    work,
    (error: unknown) => error instanceof CliError && error.exit === "usage" && message.test(error.message),
    String(message),
  );
}

test("@args has to stand in the command exactly once, as a whole argument, and only with --for [pure]", () => {
  const qemu = { vmm: "QEMU" } as const;
  checkArgsWord(["qemu", "-m", "4G", "@args"], qemu);
  checkArgsWord(["echo", "@@args"], null);
  usage(() => checkArgsWord(["echo", "@args"], null), /--for names/);
  usage(() => checkArgsWord(["qemu", "-m", "4G"], qemu), /there are 0/);
  usage(() => checkArgsWord(["qemu", "x=@args"], qemu), /there are 0/);
  usage(() => checkArgsWord(["qemu", "@args", "@args"], qemu), /there are 2/);
  usage(() => checkArgsWord(["@args"], qemu), /not for the command/);
  for (const vmm of ["LIBVIRT", "KUBEVIRT", "OPENVMM"] as const)
    usage(() => checkArgsWord(["x", "@args"], { vmm }), /takes no descriptors on a command line/);
});

test("the arguments take the place of the word, the escaped word becomes a plain one [pure]", () => {
  assert.deepEqual(withArguments(["q", "@args", "z", "@@args"], ["-a", "b c"]), ["q", "-a", "b c", "z", "@args"]);
  assert.deepEqual(withArguments(["q", "@args"], []), ["q"]);
});

test("guest memory is read where it is said plainly, and nowhere else [pure]", () => {
  const qemu: readonly (readonly [readonly string[], bigint | null])[] = [
    [["-m", "4G"], 4n * GIB],
    [["--m", "512"], 512n << 20n],
    [["-m", "size=2048M"], 2n * GIB],
    [["-m", "4G,slots=2,maxmem=8G"], null],
    [["-m", "4G", "-m", "8G"], null],
    [["-m"], null],
    [["-m", "lots"], null],
    [["-m", "0"], null],
    [["-machine", "q35"], null],
  ];
  for (const [command, expected] of qemu) assert.equal(guestMemory("QEMU", ["qemu", ...command]), expected, command.join(" "));
  const cloud: readonly (readonly [readonly string[], bigint | null])[] = [
    [["--memory", "size=1G"], GIB],
    [["--memory=size=1073741824,shared=on"], GIB],
    [["--memory", "size=1G,hotplug_size=4G"], null],
    [["--memory", "size=0"], null],
    [["--memory-zone", "size=1G"], null],
  ];
  for (const [command, expected] of cloud) assert.equal(guestMemory("CLOUD_HYPERVISOR", ["ch", ...command]), expected, command.join(" "));
});

test("sizes: powers of 1024, in any case, with or without iB; nothing else [pure]", () => {
  assert.deepEqual(
    ["1", "1k", "2M", "3GiB", "1tib"].map((text) => bytesOf(text)),
    [1n, 1024n, 2n << 20n, 3n * GIB, 1n << 40n],
  );
  assert.deepEqual(
    ["", "0", "-1", "1.5G", "1E", "G", " 1", "1 G", "9999999999999999"].map((text) => bytesOf(text)),
    Array<null>(9).fill(null),
  );
});

test("only a program of the VMM's own name is asked for its version [pure]", () => {
  for (const program of ["qemu-system-x86_64", "/usr/bin/qemu-system-aarch64", "/usr/libexec/qemu-kvm", "kvm"])
    assert.ok(isProgramOf("QEMU", program), program);
  for (const program of ["./start.sh", "sudo", "qemu-img", "/qemu-system-x86_64/run", "cloud-hypervisor"])
    assert.ok(!isProgramOf("QEMU", program), program);
  assert.ok(isProgramOf("CLOUD_HYPERVISOR", "/opt/cloud-hypervisor-static"));
  assert.ok(!isProgramOf("LIBVIRT", "virsh"));
});

test("versions are compared as numbers, and what is no version says nothing [pure]", () => {
  assert.equal(versionIn("QEMU", "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\nCopyright"), "10.0");
  assert.equal(versionIn("CLOUD_HYPERVISOR", "cloud-hypervisor v53.0.0\n"), "53.0");
  assert.equal(versionIn("QEMU", "version 8.0"), null);
  assert.deepEqual(
    [
      ["8.2", "9.0"],
      ["9.0", "9.0"],
      ["10.0", "9.0"],
      ["9.9", "10.0"],
      ["53.0", "53.1"],
    ].map(([a = "", b = ""]) => isOlder(a, b)),
    [true, false, false, true, true],
  );
});

test("the machine by the program's name [pure]", () => {
  assert.deepEqual(["/usr/bin/qemu-system-aarch64", "qemu-system-x86_64", "qemu-kvm"].map(machineOfProgram), ["VIRT", "Q35", null]);
});

test("options of the guest: read, or refused with what is wrong [pure]", () => {
  const read = (values: Readonly<Record<string, string>>): unknown => vmmOptions({ values: new Map(Object.entries(values)) });
  assert.equal(read({}), null);
  assert.deepEqual(read({ for: "qemu", "guest-memory": "4G", machine: "virt", "guest-nodes": "0=1,2=3", resource: "a.b/c" }), {
    ...{ vmm: "QEMU", guestMemory: 4n * GIB, machine: "VIRT", resourceName: "a.b/c" },
    guestNodes: [
      { guest: 0, host: 1 },
      { guest: 2, host: 3 },
    ],
  });
  usage(() => read({ for: "qmeu" }), /no VMM/);
  usage(() => read({ "guest-memory": "4G" }), /only with --for/);
  usage(() => read({ for: "qemu", "guest-memory": "4X" }), /no size/);
  usage(() => read({ for: "qemu", machine: "pc" }), /neither/);
  usage(() => read({ for: "qemu", "guest-nodes": "0" }), /GUEST=HOST/);
});

test("an argument is quoted for a shell where it has to be [pure]", () => {
  assert.equal(shellWord("vfio-pci,id=vfio-0000-01-00-0,fd=@device:0000:01:00.0"), "vfio-pci,id=vfio-0000-01-00-0,fd=@device:0000:01:00.0");
  assert.equal(shellWord("a=[0@80]"), "'a=[0@80]'");
  assert.equal(shellWord("it's"), "'it'\\''s'");
});
