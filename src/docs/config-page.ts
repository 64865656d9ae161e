// docs/CONFIG.md from the tables of src/daemon: settings, keys of a rule, what is read and trusted.

import { rangeWords, whenWords } from "../daemon/config-print.js";
import { PEER_KEYS } from "../daemon/peers-file.js";
import { POLICY_KEYS } from "../daemon/policy-file.js";
import { environmentName, SETTING_NAMES, SETTINGS } from "../daemon/settings.js";
import { MOST_GROUPS } from "../peer/groups.js";
import { code, table } from "./markdown.js";

export function configPage(): string {
  return `# Configuration of apertured

Made from the tables of \`src/daemon/\` by \`npm run docs\`. \`apertured config default\` prints the settings as a file to start from.

## Where it comes from

From the weakest to the strongest:

1. the defaults below;
2. the file: \`/etc/aperture/aperture.toml\`, or the one that \`--config\` or \`APERTURE_CONFIG\` names. The default one need not be there;
3. its drop-ins: \`conf.d/*.toml\` beside it, in the order of their names by code point. A name that begins with a dot, or ends in anything else, is not read. There is no \`include\`;
4. the environment: \`limits.ack_ms\` is \`APERTURE_LIMITS__ACK_MS\`. A variable that is empty counts as not set;
5. flags: \`--set limits.ack_ms=5000\` for any setting, and \`--host\`, \`--socket\`, \`--metrics\`, \`--log-level\`.

A later value replaces an earlier one; \`apertured config dump\` prints what is in effect, with where each value comes from and what it stands over. Policy rules are not replaced but appended,
in the order of the files; each needs a name of its own. The environment and flags carry no rules.

Everything is checked: an unknown key is an error, told with file, line and the key that was probably meant, and so is a value outside its range. \`version = 1\` may stand in a file.

## Who may write it

The files say who gets devices. Each file, and \`conf.d\` itself, must belong to root or to the daemon's user and be writable by nobody else (\`chmod go-w\`); else the daemon does not start, and a reload is
refused. Symbolic links are followed, and the file at their end counts. What is no regular file (a folder, a FIFO, a device), is larger than 1 MiB, or is not UTF-8 is refused without being waited for.

## Commands

| command | what it does |
|---|---|
| \`apertured config check\` | reads everything and prints each mistake; exit status 1 for one in a file, 2 for one in a flag or variable. Warns of what is allowed and looks wrong: a rule that can never match because an earlier one covers it, a rule for nobody, an executable pattern that keeps nobody out |
| \`apertured config default\` | prints every setting with its default, unit, range and variable |
| \`apertured config dump\` | prints the configuration in effect, as a file that says the same, with the origin of each value |
| \`aperturectl policy test\` | asks the running daemon what policy would answer, and why ([CLI.md](CLI.md)) |
| \`aperturectl policy reload\` | makes the running daemon read everything again |

## Reload

\`SIGHUP\`, or \`aperturectl policy reload\` (HostService.ReloadConfig). The same files, environment and flags are read again and judged as a whole. With a mistake anywhere nothing is changed: the old policy holds, each mistake is
in the log (\`config.refused\`) and in the answer, and \`aperture_config_last_reload_successful\` is 0. Else the new policy holds from the next request on, the settings marked "reloadable" too, and those that have changed and "need a restart" are
named in the answer and the log. **Leases that are there stay as they are**, also those that the new policy would not give. A lower limit refuses what is new; it takes nothing away. A timer that runs keeps its length.

## Settings

\`name\` stands in the file as it is; one with a dot also as a key of the table before the dot.

${table(
  ["name", "default", "what it can be", "reload", "variable", "meaning"],
  SETTING_NAMES.map((name) => [
    code(name),
    code(JSON.stringify(SETTINGS[name].default)),
    rangeWords(name),
    whenWords(name),
    code(environmentName(name)),
    SETTINGS[name].help,
  ]),
)}

Bounds that are no settings: 16 devices a device lease and 16 regions a region lease (docs/API.md), one unanswered offer a channel, ${MOST_GROUPS} supplementary groups of a caller.

## Policy

\`\`\`toml
[[policy]]
name = "no display for guests"
gid = [2000]
device = ["class:03"]
kind = []

[[policy]]
name = "vmm"
uid = [1000]
executable = "/usr/bin/qemu-system-*"
device = ["10de:*", "0000:41:00.0"]
kind = ["device"]
mode = ["hand_off", "retain"]
max_leases = 4
max_duration = 86400
\`\`\`

The first rule that matches decides. **A rule matches by who calls and which device it is about**: every one of \`uid\`, \`gid\`, \`executable\`, \`cgroup\`, \`device\` that it gives must fit. What is asked (kind, mode, delegation) does not choose the
rule: the rule that matches judges it, and what it leaves out is denied although a later rule would allow it. No rule matches: denied. Each denial names the rule. No file gives any rule: the daemon's own user may have
every device (without \`allow_device_scope\` and \`allow_unreset\`). \`policy = []\` denies everything.

${table(
  ["key", "what it can be", "when not given", "meaning"],
  Object.entries(POLICY_KEYS).map(([key, { form, missing, help }]) => [code(key), form, missing, help]),
)}

A lease of several devices may do what all their rules allow.

### Devices

| selector | devices |
|---|---|
| \`"0000:01:00.0"\` | that address |
| \`"10de:2342"\`, \`"10de:*"\` | vendor and device id; every device of a vendor. Hexadecimal, lower case |
| \`"class:0302"\` | whose class code begins so: 2 digits (class), 4 (with the subclass), 6 (with the programming interface) |
| \`"driver:nvgrace_gpu_vfio_pci"\` | bound to that driver now, named as below /sys/bus/pci/drivers |
| \`"group:12"\` | in that IOMMU group. Numbers of groups can change at a boot |
| \`"*"\` | all |

### Patterns

Of \`executable\` and \`cgroup\`: the whole path against the whole pattern. \`*\` stands for any characters within one part of the path, \`**\` for any across parts; everything else, \`?\` and \`[\` too, stands for itself.
\`/usr/bin/*\` is not \`/usr/bin/a/b\`; \`/usr/**\` is. \`"*"\` alone is any process, as a missing key is; \`"**"\` any whose path is known.

### What each of them is worth

* **uid, gid** are the kernel's word about the process that called connect(2), at that moment (SO_PEERCRED, SO_PEERGROUPS). A socket that is passed on keeps them. gid means the primary or any supplementary group. A process
  with more than ${MOST_GROUPS} supplementary groups (the kernel allows 65,536) counts as having none, only its primary group. A process can drop a group, so a rule that *denies* by gid denies only those who keep it.
* **cgroup** is the path in the cgroup v2 hierarchy, as the daemon sees it. A process cannot leave its cgroup unless it may write to that of the destination, so a cgroup that only the service manager writes
  to (\`/machine.slice/**\`, \`/system.slice/vmm.service\`) is a good boundary, and the only one here that tells containers of one user apart. A cgroup that has been removed counts as unknown.
* **executable** is the path that /proc/PID/exe names. It narrows a rule for the right user; **it keeps out nobody who runs as that user**: whoever may start the program can also make it do their will (a debugger, LD_PRELOAD,
  an inherited socket). Give \`uid\` or \`gid\` with it. The kernel writes the path as the file's own mount namespace sees it, and every user can make a namespace in which \`/usr/bin/qemu\` is a file of theirs; so the path counts only while
  it names, for the daemon, the very file that runs (device and inode are compared). A program inside a container image, one that an upgrade has replaced (\`(deleted)\`), and one that the daemon may not look at (a daemon that is not root, a process
  of another user) therefore have no executable. For containers use \`cgroup\`. A daemon in a container of its own sees other files than the host, and knows no executable of the host.
* Executable and cgroup are read once in a process's life, at its first request that a rule with such a pattern could decide, on a thread of its own; then the pidfd is asked again whether the process is still there. What cannot be known matches no pattern.
  So never *deny* by executable or cgroup: allow by them, and let the rest be denied.
* **driver**, **group** and **class** are what sysfs says at the moment of the request.

## Peers

\`\`\`toml
[[peers]]
name = "nvlink of socket 0 and 1"
devices = ["0009:01:00.0", "0019:01:00.0"]
\`\`\`

Some devices belong together by a tie that no interface of the kernel tells: GPUs that reach each other's memory over NVLink, those whose host memory is exported as one EGM device. Devices of one set are **locked together**, as those of
one IOMMU group are: whoever leases one of them keeps the others from everybody else, one lease may have several of them, and a refusal names the member in the way and the set. \`Device.peer_sets\` and \`aperturectl device\` show them.
Sets of all files count together, and a device may be in several, which ties all of those. A reload applies them from the next request on.

${table(
  ["key", "what it can be", "when not given", "meaning"],
  Object.entries(PEER_KEYS).map(([key, { form, missing, help }]) => [code(key), form, missing, help]),
)}
`;
}
