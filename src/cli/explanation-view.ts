// An explanation for people: the answer first, then why, then what to type.

import type { Device } from "../client/index.js";
import { deviceName } from "./device-facts.js";
import type { Explanation, Obstacle, Verdict } from "./explanation.js";
import { printable } from "./printable.js";
import { wrapped } from "./table.js";
import { type Colour, type Look, paint } from "./terminal.js";

const ANSWER: Readonly<Record<Verdict, { readonly text: string; readonly colour: Colour }>> = {
  YES: { text: "can be leased now", colour: "green" },
  NOT_NOW: { text: "can be leased, but not now", colour: "yellow" },
  DENIED: { text: "policy denies it to you", colour: "red" },
  NO: { text: "cannot be leased", colour: "red" },
};

export function renderExplanation(device: Device, explanation: Explanation, look: Look): string {
  const { text, colour } = ANSWER[explanation.verdict];
  const title = `${paint(printable(device.address), "bold", look.colour)} ${paint(text, colour, look.colour)}`;
  const lines = [`${title}\n`];
  const name = deviceName(device);
  if (name !== "") lines.push(...paragraph(name, "", look));
  for (const obstacle of explanation.obstacles) lines.push("\n", ...obstacleLines(obstacle, device, explanation.simulated, look));
  if (explanation.verdict === "YES")
    lines.push("\n", ...paragraph(`next: \`aperturectl exec ${device.address} -- COMMAND fd=@device\``, "", look));
  if (explanation.policy.allowed) lines.push("\n", ...paragraph(`policy: ${explanation.policy.message}`, "", look));
  for (const note of explanation.notes) lines.push("\n", ...paragraph(`note: ${note}`, "", look));
  return lines.join("");
}

function obstacleLines({ reason, message, next, commands }: Obstacle, device: Device, simulated: boolean, look: Look): readonly string[] {
  const head = paint(printable(reason), "red", look.colour);
  const lines = [`${head}\n`, ...paragraph(message, "  ", look), ...paragraph(`next: ${next}`, "  ", look)];
  if (commands.length === 0) return lines;
  const warning =
    device.driver === "" || reason !== "NO_VFIO_DRIVER" ? "" : `; ${device.driver} loses the device, so stop what uses it first`;
  return [
    ...lines,
    ...paragraph(`${simulated ? "on a real host, " : ""}as root${warning}:`, "  ", look),
    ...commands.map((command) => `    ${printable(command)}\n`),
  ];
}

function paragraph(text: string, indent: string, look: Look): readonly string[] {
  return wrapped(printable(text), look.width - indent.length).map((line) => `${indent}${line}\n`);
}
