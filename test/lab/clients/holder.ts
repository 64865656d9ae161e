// A real process that holds a lease and does what a line on stdin says, one JSON line on stdout for each: so that tests can have clients of another uid, kill
// them, or let them keep only a mapping. Values cross as decimal strings, because 64 bits do not fit a JSON number.
//
//   SOCKET is the only argument. First line out: {"ok":true,"pid":...,"uid":...}.
//
//   acquire ADDRESS...              {lease, backend, kind, descriptors: [{kind, scope, address, region, group, offset, size, fd}], devices: [{address, regions}]}
//   acquire-regions ADDRESS LIST    the same; LIST as in 2,4
//   retain ADDRESS...               acquires with mode RETAIN; as acquire
//   reserve UID ADDRESS...          with a ticket for that user: {lease, ticket}
//   show TICKET                     takes the lease of a ticket; as acquire, and {succeeded}
//   successor                       {ticket}: for a successor of this process
//   session ADDRESS                 acquires on a session whose end ends its leases; as acquire
//   end-session                     ends it
//   recalled                        waits for the recall: {cause}
//   bind ADDRESS                    VFIO_DEVICE_BIND_IOMMUFD
//   bind-with ADDRESS TOKEN         the same with this VF token, a UUID, or none: {code}, empty when it is bound
//   info ADDRESS REGION             what the driver says now: {flags, size, offset, sparse}
//   map ADDRESS REGION              read-write; {size}
//   peek ADDRESS REGION OFFSET      32 bits through the mapping: {value}
//   poke ADDRESS REGION OFFSET VALUE
//   read ADDRESS REGION OFFSET N    by pread: {hex}
//   write ADDRESS REGION OFFSET HEX by pwrite
//   drop-descriptors                closes every descriptor, keeps mappings and lease
//   keep ADDRESS                    duplicates the device's descriptor: a copy that outlives release
//   drop-kept                       closes what was kept
//   unmap                           closes every mapping
//   descriptors                     {count}: open descriptors of this process
//   ended                           waits for the lease's end: {cause}
//   release                         {state, endCause, quarantined}
//   exit                            without releasing anything
//
// A failure is {"ok":false, name, reason, code, message}. Offsets and values may be written in hexadecimal (0x...).

import { readdirSync } from "node:fs";
import { createInterface } from "node:readline";
import {
  type ApertureClient,
  ApertureError,
  connect,
  type HeldLease,
  type LeaseSession,
  type RegionMapping,
} from "../../../src/client/index.js";
import { OwnedDescriptor } from "../../../src/descriptor.js";
import { native } from "../../../src/native.js";

class Holder {
  readonly #client: ApertureClient;
  readonly #mappings = new Map<string, RegionMapping>();
  readonly #kept: OwnedDescriptor[] = [];
  #lease: HeldLease | null = null;
  #session: LeaseSession | null = null;

  constructor(client: ApertureClient) {
    this.#client = client;
  }

  async obey(line: string): Promise<object> {
    const [verb = "", ...words] = line.trim().split(/\s+/);
    const [address = "", region = "", offset = "0", value = "0"] = words;
    switch (verb) {
      case "acquire":
        return this.#hold(await this.#client.acquire({ kind: "device", addresses: words }));
      case "acquire-regions":
        return this.#hold(await this.#client.acquire({ kind: "region", address, regions: region.split(",").map(Number) }));
      case "retain":
        return this.#hold(await this.#client.acquire({ kind: "device", addresses: words }, { mode: "RETAIN" }));
      case "reserve": {
        const target = { kind: "device", addresses: words.slice(1) } as const;
        const { lease, ticket } = await this.#client.reserve(target, { uid: Number(words[0]) }, { mode: "RETAIN" });
        return { lease: lease.id, ticket: Buffer.from(ticket).toString("hex") };
      }
      case "show": {
        const lease = await this.#client.showTicket(Buffer.from(address, "hex"));
        return { ...this.#hold(lease), succeeded: lease.succeeded };
      }
      case "successor":
        return { ticket: Buffer.from((await this.#held().nameSuccessor()).ticket).toString("hex") };
      case "session":
        this.#session = await this.#client.session({ endLeases: true });
        return this.#hold(await this.#session.acquire({ kind: "device", addresses: words }));
      case "end-session":
        await this.#session?.close();
        return {};
      case "recalled":
        return { cause: (await this.#held().recalled).cause };
      case "bind":
        await this.#held().bind(address);
        return {};
      case "bind-with":
        return await this.#bindWith(address, region === "none" ? null : region);
      case "info":
        return await this.#held().regionInfo(address, Number(region));
      case "map":
        return await this.#map(address, Number(region));
      case "peek":
        return { value: words32(await this.#mapping(address, region).read(BigInt(offset), 4)) };
      case "poke":
        await this.#mapping(address, region).write(BigInt(offset), bytes32(Number(value)));
        return {};
      case "read":
        return { hex: Buffer.from(await this.#held().read(address, Number(region), BigInt(offset), Number(value))).toString("hex") };
      case "write":
        await this.#held().write(address, Number(region), BigInt(offset), Buffer.from(value, "hex"));
        return {};
      case "drop-descriptors":
        await this.#held().closeDescriptors();
        return {};
      case "keep":
        return this.#keep(address);
      case "drop-kept":
        for (const descriptor of this.#kept.splice(0)) descriptor.close();
        return {};
      case "unmap":
        for (const mapping of this.#mappings.values()) await mapping.close();
        this.#mappings.clear();
        return {};
      case "descriptors":
        // The folder's own descriptor is in the list.
        return { count: readdirSync("/proc/self/fd").length - 1 };
      case "ended":
        return await this.#held().ended;
      case "release":
        return await this.#release();
      default:
        throw new RangeError(`holder does not know \`${verb}\``);
    }
  }

  #keep(address: string): object {
    const found = this.#held().descriptors.find(({ info }) => info.address === address);
    if (found === undefined) throw new RangeError(`holder has no descriptor of ${address}`);
    const copy = native.duplicate(found.descriptor.borrow());
    if (copy.error !== null) throw new Error(copy.error.code);
    this.#kept.push(new OwnedDescriptor(copy.value, `kept ${address}`));
    return {};
  }

  async #bindWith(address: string, token: string | null): Promise<object> {
    const lease = this.#held();
    const queue = new native.BlockingQueue("bind-with");
    const [device, iommufd] = [lease.descriptor("DEVICE_UNBOUND", address), lease.descriptor("IOMMUFD")];
    const { error } = await queue.bindIommufd(device.borrow(), iommufd.borrow(), token, address);
    await queue.finish();
    return { code: error?.code ?? "" };
  }

  #hold(lease: HeldLease): object {
    this.#lease = lease;
    const descriptors = lease.descriptors.map(({ info, descriptor }) => ({ ...info, fd: descriptor.borrow() }));
    return { lease: lease.id, kind: lease.kind, backend: lease.backend, descriptors, devices: lease.devices };
  }

  #held(): HeldLease {
    if (this.#lease === null) throw new RangeError("holder has no lease yet");
    return this.#lease;
  }

  async #map(address: string, region: number): Promise<object> {
    const mapping = await this.#held().map(address, region, { write: true });
    this.#mappings.set(`${address} ${region}`, mapping);
    return { size: mapping.size };
  }

  #mapping(address: string, region: string): RegionMapping {
    const mapping = this.#mappings.get(`${address} ${region}`);
    if (mapping === undefined) throw new RangeError(`holder has not mapped region ${region} of ${address}`);
    return mapping;
  }

  async #release(): Promise<object> {
    const { state, endCause, quarantined } = await this.#held().release();
    this.#mappings.clear();
    this.#lease = null;
    return { state, endCause, quarantined };
  }
}

function words32(bytes: Uint8Array): number {
  return Buffer.from(bytes).readUInt32LE(0);
}

function bytes32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function answer(value: object): void {
  process.stdout.write(`${JSON.stringify(value, (_key, part: unknown) => (typeof part === "bigint" ? part.toString() : part))}\n`);
}

function failure(error: unknown): object {
  if (error instanceof ApertureError) {
    const { name, reason, code, message, next, metadata } = error;
    return { ok: false, name, reason, code, message, next, metadata };
  }
  const { name, message } = error instanceof Error ? error : new Error(String(error));
  return { ok: false, name, reason: name, code: "UNKNOWN", message };
}

const [socket] = process.argv.slice(2);
try {
  // Emulated machines are slow, and several clients start at once there.
  const timeoutMs = 120_000;
  const holder = new Holder(await connect(socket === undefined ? { timeoutMs } : { socket, timeoutMs }));
  answer({ ok: true, pid: process.pid, uid: process.getuid?.() ?? -1 });
  for await (const line of createInterface({ input: process.stdin })) {
    if (line.trim() === "exit") break;
    try {
      answer({ ok: true, ...(await holder.obey(line)) });
    } catch (error) {
      answer(failure(error));
    }
  }
} catch (error) {
  answer(failure(error));
}
// With the channel open, and perhaps a lease: its end by the death of its holder is what some tests are about.
process.exit();
