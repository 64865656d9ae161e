// `aperturectl __complete WORD...`: what the shells' completion scripts call at each TAB. The first line says who completes (words, file, command), the rest are words,
// each with a tab and its help. Whatever goes wrong, it says nothing: a person is in the middle of a line.

import type { ApertureClient } from "../client/index.js";
import { type Candidate, type Completion, complete } from "./completion.js";
import { deviceName } from "./device-facts.js";
import { printable } from "./printable.js";
import type { Terminal } from "./terminal.js";

/** A person waits for it. */
const PATIENCE_MS = 1000;

export async function completeLine(words: readonly string[], terminal: Terminal): Promise<number> {
  const found = complete(words);
  if (found.ask === "file") terminal.out("file\n");
  else if (found.ask === "command line") terminal.out("command\n");
  else {
    const asked = await fromDaemon(found).catch(() => []);
    const all = [...asked, ...found.candidates].map(({ word, help }) => `${printable(word)}\t${printable(help)}\n`);
    terminal.out(["words\n", ...all].join(""));
  }
  return 0;
}

async function fromDaemon(found: Completion): Promise<readonly Candidate[]> {
  if (found.ask === null) return [];
  const { connect } = await import("../client/index.js");
  const client = await connect({ ...(found.socket === null ? {} : { socket: found.socket }), timeoutMs: PATIENCE_MS });
  try {
    const candidates = await (found.ask === "lease" ? leases(client) : addresses(client, found.ask === "leasable address"));
    return candidates.filter(({ word }) => !found.given.includes(word)).map(({ word, help }) => ({ word: `${found.prefix}${word}`, help }));
  } finally {
    await client.close();
  }
}

async function addresses(client: ApertureClient, leasableOnly: boolean): Promise<readonly Candidate[]> {
  const candidates: Candidate[] = [];
  for await (const device of client.devices({ leasableOnly }))
    candidates.push({ word: device.address, help: deviceName(device) || device.driver });
  return candidates;
}

async function leases(client: ApertureClient): Promise<readonly Candidate[]> {
  const candidates: Candidate[] = [];
  for await (const { id, state, devices } of client.leases()) {
    candidates.push({ word: id, help: `${state} ${devices.map(({ address }) => address).join(" ")}` });
  }
  return candidates;
}
