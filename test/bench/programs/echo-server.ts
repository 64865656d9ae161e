// A bare grpc-js server on a UNIX socket, with nothing of ours in its handlers: what gRPC alone costs in this language.
//   Echo       unary, answers with the request's bytes
//   Change     unary, answers, and writes one recorded message to every open Watch
//   Snapshot   server stream: the recorded messages, as fast as the peer takes them
//   Watch      server stream: one short message, then what Change writes
// Messages are bytes already: no codec is measured here. Recorded messages are what a daemon sent (stream_client --record): 4 bytes of length before each.
// Usage: echo-server.js SOCKET bound|injected RECORD   (RECORD: a file, - for none)
//   bound     server.bindAsync: grpc-js listens
//   injected  the daemon's own listener (src/peer) accepts and identifies, then injects

import { readFileSync } from "node:fs";
import * as grpc from "@grpc/grpc-js";
import { GrpcListener } from "../../../src/peer/grpc-listener.js";
import { Processes } from "../../../src/peer/processes.js";
import { listenAt } from "../../../src/peer/socket-path.js";
import { PollSet } from "../../../src/poll-set.js";

const [socket = "", how = "bound", record = "-"] = process.argv.slice(2);

function recorded(): readonly Buffer[] {
  if (record === "-") return [];
  const all = readFileSync(record);
  const messages: Buffer[] = [];
  for (let at = 0; at < all.length; ) {
    const length = all.readUInt32LE(at);
    messages.push(all.subarray(at + 4, at + 4 + length));
    at += 4 + length;
  }
  return messages;
}

const messages = recorded();
const change = messages.at(-1) ?? Buffer.alloc(0);
const watchers = new Set<grpc.ServerWritableStream<Buffer, Buffer>>();
const asItIs = (bytes: Buffer): Buffer => bytes;
const method = (name: string, responseStream: boolean) => ({
  ...{ path: `/bench.Bare/${name}`, requestStream: false, responseStream },
  ...{ requestSerialize: asItIs, requestDeserialize: asItIs, responseSerialize: asItIs, responseDeserialize: asItIs },
});

const server = new grpc.Server({ "grpc.enable_channelz": 0 });
server.addService(
  { Echo: method("Echo", false), Change: method("Change", false), Snapshot: method("Snapshot", true), Watch: method("Watch", true) },
  {
    Echo: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => done(null, call.request),
    Change: (call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) => {
      for (const watcher of watchers) watcher.write(change);
      done(null, call.request);
    },
    Snapshot: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
      let next = 0;
      const send = (): void => {
        while (next < messages.length) {
          const message = messages[next];
          next += 1;
          if (message !== undefined && !call.write(message)) {
            call.once("drain", send);
            return;
          }
        }
        call.end();
      };
      send();
    },
    Watch: (call: grpc.ServerWritableStream<Buffer, Buffer>) => {
      watchers.add(call);
      call.once("close", () => watchers.delete(call));
      call.write(Buffer.alloc(0));
    },
  },
);

if (how === "bound") {
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(`unix:${socket}`, grpc.ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve()));
  });
} else {
  const listening = listenAt({ path: socket, type: "stream", mode: 0o600, gid: -1 });
  if (listening.problem !== null) throw new Error(listening.problem);
  const fault = (error: unknown): void => {
    throw error;
  };
  const pollSet = new PollSet(fault);
  const processes = new Processes(pollSet, "pidfd", () => undefined);
  const injector = server.createConnectionInjector(grpc.ServerCredentials.createInsecure());
  const listener = new GrpcListener({
    ...{ pollSet, processes, limits: { connections: 4096, connectionsPerUid: 4096, firstCallMs: 600_000 } },
    inject: (connection) => injector.injectConnection(connection),
    onRejected: (why) => fault(new Error(why)),
    onFault: fault,
  });
  listener.listen(listening.socket.fd);
}
process.stdout.write("READY\n");
process.on("SIGTERM", () => process.exit(0));
