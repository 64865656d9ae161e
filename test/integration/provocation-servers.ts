// Provocations that need a server in a state of its own.

import { once } from "node:events";
import { rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import type { Peer } from "../../src/broker/ports.js";
import { RpcServer } from "../../src/rpc/server.js";
import { fakeBroker } from "../fakes/broker.js";
import { socketFolder } from "../harness/daemon.js";
import { acquireMessage } from "../harness/http2-bytes.js";
import { OwnDaemon } from "../harness/own-daemon.js";
import { failed, type Result, Rpc } from "../harness/rpc.js";
import { until } from "../harness/until.js";

import { ALL_ALLOWED, asked, attached, type Daemons, NVME, type Told } from "./provocation.js";

/** The gRPC server of a broker on fakes, whose callers are all this peer; null: no local process, as a daemon that also listened on TCP would meet. */
export async function servedTo(
  caller: Peer | null,
  daemons: Daemons,
  ask: (rpc: Rpc) => Promise<Result<unknown>>,
): Promise<readonly Told[]> {
  const broker = await fakeBroker([[1]]);
  const refused = new Map<string, number>();
  const server = new RpcServer({
    ...{ inventory: broker.inventory, leases: broker.leases, host: broker.host },
    facts: {
      version: "",
      kernelRelease: "",
      backendReason: "",
      limits: () => [],
      instanceId: "",
      startTime: 0,
      channelPath: "",
      capabilities: [],
    },
    limits: {
      requestBytes: 65_536,
      streamsPerConnection: 8,
      sessionMemoryMib: 10,
      keepaliveMs: 30_000,
      keepaliveTimeoutMs: 20_000,
      watchers: 8,
      ...{ ticketMs: 60_000, ticketMaxMs: 900_000, sessionRequests: 32 },
    },
    reload: () => {
      throw new Error("reloaded");
    },
    vmmArguments: () => {
      throw new Error("arguments made");
    },
    peerOf: () => caller,
    onCall: () => {},
    observeCall: () => ({ received: () => {}, sent: () => {}, ended: () => {} }),
    inTraceOf: (_values, work) => work(),
    onRefused: (reason) => refused.set(reason, (refused.get(reason) ?? 0) + 1),
    onFault: (where, error) => {
      throw new Error(where, { cause: error });
    },
  });
  const folder = socketFolder();
  const socket = join(folder, "a.sock");
  const listener = createServer((connection) => server.inject(connection)).listen(socket);
  await once(listener, "listening");
  // There is no page without a daemon: what it would show is what the server told.
  const page = (): string => [...refused].map(([reason, count]) => `aperture_refusals_total{reason="${reason}"} ${count}`).join("\n");
  daemons.started.push({ socket, metrics: async () => page() });
  const told = asked(await ask(new Rpc(socket)));
  Rpc.closeAll();
  listener.close();
  await server.shutdown(100);
  rmSync(folder, { recursive: true });
  return [told];
}

/** A call whose message arrives when the daemon is stopping already, and a channel that it closes then. */
export async function draining(daemons: Daemons): Promise<readonly Told[]> {
  const daemon = await OwnDaemon.start({ config: `limits.shutdown_ms = 20000\n${ALL_ALLOWED}` });
  const channel = await attached(daemon);
  const connection = new grpc.Client(`unix:${daemon.socket}`, grpc.credentials.createInsecure(), { "grpc.default_authority": "localhost" });
  const asIs = (bytes: Buffer): Buffer => bytes;
  const results: Result<unknown>[] = [];
  const begun = (): grpc.ClientWritableStream<Buffer> =>
    connection.makeClientStreamRequest("/aperture.v1.LeaseService/AcquireLease", asIs, asIs, (error) => {
      if (error !== null) results.push(failed(error));
    });
  const [call, other] = [begun(), begun()];
  // Their HEADERS are there, their messages are not.
  await until(
    "the start of the calls",
    () => daemon.metrics(),
    (page) => /^grpc_server_started_total\{.*grpc_method="AcquireLease"\} 2$/m.test(page),
  );
  const stopped = daemon.stop();
  call.end(acquireMessage(NVME));
  await until(
    "the answer",
    () => results.length,
    (answered) => answered === 1,
  );
  // While the other call keeps it from ending. The GOODBYE comes when there is no page any more; the log counts it.
  const page = await daemon.metrics();
  other.cancel();
  const reason = await channel.goodbye();
  await stopped;
  connection.close();
  const goodbyes = daemon.records().filter(({ event, fields }) => event === "peer.rejected" && fields["reason"] === "DRAINING").length;
  const rest = page.replace(/^(aperture_peer_rejections_total\{reason="DRAINING"\}) .*$/m, `$1 ${goodbyes}`);
  daemons.started.push({ socket: daemon.socket, metrics: async () => rest });
  return [...results.slice(0, 1).map(asked), { by: "goodbye", reason }];
}
