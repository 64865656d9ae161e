import type { PolicyAnswer, PolicyQuestion } from "../../client/index.js";
import type { CommandCall } from "../command.js";
import { CliError, EXIT } from "../exit-code.js";
import { writeOne } from "../output.js";
import { printable } from "../printable.js";
import { renderTable } from "../table.js";
import type { Look } from "../terminal.js";

export async function run(call: CommandCall): Promise<number> {
  const question = questionOf(call);
  const answer = await call.withClient((client) => client.testPolicy(question));
  await writeOne(call.terminal, call.format, { value: answer, name: answer.allowed ? "allowed" : "denied" }, () =>
    renderAnswer(answer, call.terminal),
  );
  return answer.allowed ? EXIT.ok.code : EXIT.denied.code;
}

function questionOf({ values, flags }: CommandCall): PolicyQuestion {
  const address = values.get("device");
  if (address === undefined) throw new CliError("usage", "policy test: which device? Name it with --device ADDRESS");
  const own = process.getuid?.() ?? 0;
  const uid = idOf(values.get("uid") ?? String(own), "uid");
  const listed = values.get("gid");
  // The groups of this very process are right only for its own user.
  const ours = uid === own && !values.has("uid") ? [process.getgid?.() ?? 0, ...(process.getgroups?.() ?? [])] : [];
  const executable = values.get("executable");
  const cgroup = values.get("cgroup");
  return {
    uid,
    gids: listed === undefined ? [...new Set(ours)] : listed.split(",").map((text) => idOf(text, "gid")),
    ...(executable === undefined ? {} : { executable }),
    ...(cgroup === undefined ? {} : { cgroup }),
    address,
    kind: oneOf(values.get("kind") ?? "device", "kind", { device: "DEVICE", region: "REGION" }),
    mode: oneOf(values.get("mode") ?? "hand_off", "mode", { hand_off: "HAND_OFF", retain: "RETAIN" }),
    delegate: flags.has("delegate"),
  };
}

function idOf(text: string, option: string): number {
  const id = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (!(id < 0xffffffff)) throw new CliError("usage", `--${option} ${text}: expected a number below 4294967295`);
  return id;
}

function oneOf<T>(text: string, option: string, known: Readonly<Record<string, T>>): T {
  const value = Object.hasOwn(known, text) ? known[text] : undefined;
  if (value === undefined) throw new CliError("usage", `--${option} ${text}: expected ${Object.keys(known).join(" or ")}`);
  return value;
}

function renderAnswer(answer: PolicyAnswer, look: Look): string {
  const steps = renderTable(
    [{ title: "#", align: "right" }, { title: "RULE" }, { title: "WHAT IT SAYS" }],
    answer.steps.map(({ position, rule, matched, explanation }) => [
      String(position),
      printable(rule),
      { text: printable(explanation), colour: matched ? (answer.allowed ? "green" : "red") : "plain" },
    ]),
    look,
  );
  const verdict = `${answer.allowed ? "ALLOWED" : "DENIED"}: ${printable(answer.message)}`;
  const terms = answer.allowed ? `\n${termsOf(answer).join("\n")}\n` : "\n";
  return `${answer.steps.length === 0 ? "There is no rule.\n" : steps}\n${verdict}${terms}`;
}

function termsOf({ allowDeviceScope, allowUnreset, maxLeases, maxDurationMs }: PolicyAnswer): readonly string[] {
  return [
    `  leases at once: ${maxLeases === null ? "the daemon's limit (limits.leases_per_uid)" : maxLeases}`,
    `  longest life: ${maxDurationMs === null ? "no end" : `${maxDurationMs / 1000} s`}`,
    `  a region lease of the whole device's scope: ${allowDeviceScope ? "yes" : "no"}`,
    `  a device without reset from another user: ${allowUnreset ? "yes" : "no"}`,
  ];
}
