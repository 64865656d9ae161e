// ListDevices page by page: every device once, in order, whatever the page size and the filter.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { ServerUnaryCall } from "@grpc/grpc-js";
import fc from "fast-check";
import type { ListDevicesRequest__Output } from "../../../src/generated/aperture/v1/ListDevicesRequest.js";
import { deviceService } from "../../../src/rpc/device-service.js";
import { services } from "../../../src/rpc/protos.js";
import { makeUnary } from "../../../src/rpc/unary.js";
import { WatcherPlaces } from "../../../src/rpc/watching.js";
import { client, type FakeBroker, fakeBroker, hold } from "../../fakes/broker.js";
import { fakeAddress } from "../../fakes/host.js";

interface Page {
  readonly addresses: readonly string[];
  readonly next: string;
}

type List = (pageSize: number, pageToken: string, leasableOnly: boolean) => Promise<Page>;

function listOf(broker: FakeBroker): List {
  const unary = makeUnary({ peerOf: () => null, onRefused: () => undefined, onFault: (where, error) => assert.fail(`${where}: ${error}`) });
  const watchers = new WatcherPlaces(
    () => 1,
    () => undefined,
  );
  const { ListDevices } = deviceService({ inventory: broker.inventory, backend: "SIMULATED", unary, watchers });
  return (pageSize, pageToken, leasableOnly) =>
    new Promise((resolve, reject) => {
      const filter = { addresses: [], leasableOnly };
      const request = { pageSize, pageToken, filter: leasableOnly ? filter : null };
      const call = { request, getPeer: () => "", getPath: () => "ListDevices" };
      ListDevices(call as unknown as ServerUnaryCall<ListDevicesRequest__Output, Buffer>, (error, bytes) => {
        if (error || !bytes) return reject(new Error(JSON.stringify(error)));
        const { devices, nextPageToken } = services.device.ListDevices.responseDeserialize(bytes);
        resolve({ addresses: devices.map(({ address }) => address), next: nextPageToken });
      });
    });
}

async function all(list: List, size: number, leasableOnly: boolean): Promise<readonly (readonly string[])[]> {
  const pages: (readonly string[])[] = [];
  for (let token = "", first = true; first || token !== ""; first = false) {
    const page = await list(size, token, leasableOnly);
    pages.push(page.addresses);
    token = page.next;
  }
  return pages;
}

describe("[pure] ListDevices", () => {
  it("gives every device once and in order, in pages that are full but for the last", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 12 }),
        fc.integer({ min: 1, max: 14 }),
        fc.boolean(),
        async (count, size, leasableOnly) => {
          const numbers = Array.from({ length: count }, (_, i) => i + 1);
          const broker = await fakeBroker(numbers.map((n) => [n]));
          // Every third is leased: no device for a list of what can be.
          for (const n of numbers) if (n % 3 === 0) await hold(broker, client(broker, n, 1000 + n), fakeAddress(n));
          const wanted = numbers.filter((n) => !leasableOnly || n % 3 !== 0).map(fakeAddress);
          const pages = await all(listOf(broker), size, leasableOnly);
          assert.deepEqual(pages.flat(), wanted);
          for (const page of pages.slice(0, -1)) assert.equal(page.length, size);
          assert.ok(pages.length === 1 || (pages.at(-1)?.length ?? 0) > 0, "no empty page behind the last");
        },
      ),
      { numRuns: 60 },
    );
  });

  it("goes on behind a device that has left since", async () => {
    const broker = await fakeBroker([[1], [2], [3]]);
    const list = listOf(broker);
    const first = await list(2, "", false);
    broker.host.device(fakeAddress(2)).present = false;
    await broker.inventory.refresh();
    assert.deepEqual(await list(2, first.next, false), { addresses: [fakeAddress(3)], next: "" });
  });
});
