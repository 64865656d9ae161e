// The services that libraries implement, loaded at their first call: health and reflection, as any gRPC tool calls them.

import assert from "node:assert/strict";
import { dirname } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { protoPath } from "grpc-health-check";
import { DaemonProcess } from "../harness/daemon.js";

/** As a stream that is read to its end. */
interface Stream extends AsyncIterable<Readonly<Record<string, unknown>>> {
  write(message: object): void;
  end(): void;
}

type Callback = (error: grpc.ServiceError | null, answer: Record<string, unknown>) => void;

interface Client {
  check(request: object, callback: Callback): void;
  list(request: object, callback: Callback): void;
  watch(request: object): Stream;
  serverReflectionInfo(): Stream;
  close(): void;
}

const OPTIONS = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true };
const REFLECTION = dirname(fileURLToPath(import.meta.resolve("@grpc/reflection")));

describe("[real processes, simulated host] the standard services", () => {
  let daemon: DaemonProcess;
  let clients: Client[] = [];
  before(async () => {
    daemon = await DaemonProcess.start();
  });
  afterEach(() => {
    for (const client of clients) client.close();
    clients = [];
  });
  after(() => daemon.stop());

  function connect(file: string, service: string, to = daemon): Client {
    const ServiceClient = grpc.makeClientConstructor(loadSync(file, OPTIONS)[service] as grpc.ServiceDefinition, service);
    const client = new ServiceClient(`unix:${to.socket}`, grpc.credentials.createInsecure(), { "grpc.default_authority": "localhost" });
    clients.push(client as unknown as Client);
    return client as unknown as Client;
  }
  const health = (to = daemon): Client => connect(protoPath, "grpc.health.v1.Health", to);
  const ask = (call: (callback: Callback) => void): Promise<readonly [number, Record<string, unknown>]> =>
    new Promise((resolve) => call((error, answer) => resolve([error?.code ?? 0, answer])));

  it("tell the health of each service, and of no other", async () => {
    const client = health();
    for (const service of [
      "",
      "aperture.v1.DeviceService",
      "aperture.v1.LeaseService",
      "aperture.v1.DriverService",
      "aperture.v1.HostService",
      "aperture.v1.VmmService",
    ])
      assert.deepEqual(await ask((callback) => client.check({ service }, callback)), [0, { status: "SERVING" }], service);
    const [code] = await ask((callback) => client.check({ service: "aperture.v1.Other" }, callback));
    assert.equal(code, grpc.status.NOT_FOUND);
    const [, { statuses }] = await ask((callback) => client.list({}, callback));
    assert.equal(Object.keys(statuses as object).length, 6);
  });

  it("let health be watched until the daemon stops", async () => {
    const own = await DaemonProcess.start();
    const told: unknown[] = [];
    let stopped: Promise<unknown> | null = null;
    const watched = async (): Promise<void> => {
      for await (const { status } of health(own).watch({ service: "" })) {
        told.push(status);
        stopped ??= own.stop();
      }
    };
    await assert.rejects(watched(), { code: grpc.status.UNAVAILABLE });
    await stopped;
    assert.deepEqual(told, ["SERVING", "NOT_SERVING"]);
  });

  for (const version of ["v1", "v1alpha"])
    it(`show the API by reflection ${version}`, async () => {
      const file = `${REFLECTION}/../proto/grpc/reflection/${version}/reflection.proto`;
      const stream = connect(file, `grpc.reflection.${version}.ServerReflection`).serverReflectionInfo();
      stream.write({ list_services: "*" });
      stream.write({ file_containing_symbol: "aperture.v1.LeaseService.AcquireLease" });
      stream.end();
      const answers: Readonly<Record<string, unknown>>[] = [];
      for await (const answer of stream) answers.push(answer);
      const [listed, described] = answers;
      assert.ok(listed && described && answers.length === 2);
      const { service } = listed["list_services_response"] as { readonly service: readonly { readonly name: string }[] };
      assert.deepEqual(service.map(({ name }) => name).sort(), [
        "aperture.v1.DeviceService",
        "aperture.v1.DriverService",
        "aperture.v1.HostService",
        "aperture.v1.LeaseService",
        "aperture.v1.VmmService",
        "grpc.health.v1.Health",
      ]);
      const { file_descriptor_proto } = described["file_descriptor_response"] as { readonly file_descriptor_proto: readonly Buffer[] };
      assert.ok(file_descriptor_proto.some((bytes) => bytes.includes("aperture/v1/lease.proto")));
    });
});
