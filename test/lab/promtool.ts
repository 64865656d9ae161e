// Prometheus' own judgement of the metrics page. promtool comes with Debian's package prometheus, which would also start a service: it is unpacked into the cache and never
// installed. Not having it is a failure, as everything that keeps the lab from its work.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { DaemonProcess } from "../harness/daemon.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { RawChannel } from "../harness/raw-channel.js";
import { Rpc } from "../harness/rpc.js";
import { addToCache, newestCached } from "./cache.js";
import { debianTools } from "./packages.js";
import { say } from "./process.js";

const HELD = "0000:02:00.0";
const KEPT = "0000:41:01.0";

async function promtool(): Promise<string> {
  const folder = (await newestCached(/^prometheus-\d+$/)) ?? (await download());
  return join(folder, "usr/bin/promtool");
}

async function download(): Promise<string> {
  say("downloading prometheus, for promtool");
  const { apt, release } = await debianTools();
  return addToCache(async (folder) => {
    const name = `prometheus-${release.version}`;
    await apt.unpack("prometheus", join(folder, name));
    return { name, path: join(folder, name) };
  });
}

interface Verdict {
  readonly status: number | null;
  readonly said: string;
}

async function judge(program: string, page: string): Promise<Verdict> {
  const child = spawn(program, ["check", "metrics"], { stdio: ["pipe", "pipe", "pipe"] });
  child.stdin.end(page);
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
  return { status: child.exitCode, said: out + err };
}

/** The page of a daemon that has granted, refused, quarantined and rejected. */
async function page(): Promise<string> {
  const daemon = await DaemonProcess.start();
  try {
    const bench = await LeaseBench.at(daemon);
    const { channel } = await RawChannel.attached(daemon.socket);
    for (const address of [HELD, KEPT]) {
      const { frame } = await bench.held(channel, address);
      if (address === HELD) channel.drop();
      await bench.release(frame.leaseId);
    }
    await bench.acquire("nonsense");
    channel.send(Buffer.from("nonsense"));
    await channel.goodbye();
    channel.close();
    return await daemon.metrics();
  } finally {
    Rpc.closeAll();
    await daemon.stop();
  }
}

export async function promtoolSaysNothing(): Promise<void> {
  const program = await promtool();
  const exposed = await page();
  assert.match(exposed, /^aperture_device_quarantine_start_timestamp_seconds\{/m);
  assert.deepEqual(await judge(program, exposed), { status: 0, said: "" });
  // It does look: a gauge that calls itself a total is what it was fetched for.
  const wrong = await judge(program, `${exposed}\n# HELP wrong_total A gauge.\n# TYPE wrong_total gauge\nwrong_total 1\n`);
  assert.notEqual(wrong.status, 0);
  assert.match(wrong.said, /wrong_total/);
}
