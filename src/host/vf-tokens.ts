// VF tokens. A virtual function whose physical function belongs to vfio-pci is opened only by whoever knows the physical function's token (drivers/vfio/pci/vfio_pci_core.c
// vfio_pci_validate_vf_token): one UUID for it and all its virtual functions, that nobody can read. Opening the physical function with a token sets it while no virtual function is
// open, and has to match it while one is. So the daemon opens every physical function with one that it has made up, and its virtual functions with the same.
//
// A physical function is leased only once it was probed, so its token stands before a lease of it, and nothing but a probe has to open it. What its holder can do is set another one: then
// the virtual functions are refused until the physical function is back and proven, which sets the daemon's again. The tokens are in memory only, and in no log.

import { randomUUID } from "node:crypto";
import type { Address, DeviceFacts } from "../broker/device.js";
import type { SysResult } from "../native.js";

/** Opens a device with a token, or without one. */
export type OpenWith<T> = (token: string | null) => Promise<SysResult<T>>;

/**
 * SET: the kernel took it. ABSENT: it knows no tokens on this way, or the driver has none, so that none is needed. UNSET: not tried yet, or refused because a virtual function is open
 * whose holder got the token of somebody else, for example of the daemon that ran before.
 */
type Standing = "UNSET" | "SET" | "ABSENT";

interface Token {
  /** Of the binding to which it belongs: the kernel forgets it with the driver. */
  readonly bindKey: string;
  readonly uuid: string;
  standing: Standing;
}

export interface VfTokensDeps {
  /** The bindKey of a device that a VFIO driver has now; null: none has. */
  readonly vfioBinding: (address: Address) => Promise<string | null>;
  /** What was learnt of the kernel. */
  readonly learnt: (checks: boolean, detail: string) => void;
  /** Opens a physical function through `opening` and closes it again. */
  readonly openOnce: (physical: DeviceFacts) => Promise<void>;
}

export class VfTokens {
  readonly #deps: VfTokensDeps;
  readonly #physical = new Map<Address, DeviceFacts>();
  readonly #tokens = new Map<Address, Token>();
  readonly #turns = new Map<Address, Promise<unknown>>();

  constructor(deps: VfTokensDeps) {
    this.#deps = deps;
  }

  /** Devices as a scan found them. all: there are no others. */
  seen(devices: readonly DeviceFacts[], all: boolean): void {
    if (all) this.#physical.clear();
    for (const facts of devices) if (isPhysical(facts)) this.#physical.set(facts.address, facts);
    if (all) for (const address of this.#tokens.keys()) if (!this.#physical.has(address)) this.#tokens.delete(address);
  }

  /** Runs a probe. A physical function is opened by one at a time: a second BIND beside the probe's would be refused. */
  probing<T>(facts: DeviceFacts, probe: () => Promise<T>): Promise<T> {
    if (isPhysical(facts)) return this.#alone(facts.address, probe);
    return facts.physicalFunction === null ? probe() : this.#prepared(facts.physicalFunction).then(probe);
  }

  /** The token of a physical function that was not opened yet is set by opening it. */
  async #prepared(address: Address): Promise<void> {
    await this.#alone(address, async () => {
      const bindKey = await this.#deps.vfioBinding(address);
      const facts = this.#physical.get(address);
      if (bindKey === null || facts?.bindKey !== bindKey || this.#token(address, bindKey).standing !== "UNSET") return;
      await this.#deps.openOnce(facts);
    });
  }

  async #alone<T>(physical: Address, work: () => Promise<T>): Promise<T> {
    const before = this.#turns.get(physical);
    const turn = (async (): Promise<T> => {
      await before?.catch(() => undefined);
      return await work();
    })();
    this.#turns.set(physical, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(physical) === turn) this.#turns.delete(physical);
    }
  }

  /** Opens a device by `open`, with the token that it needs. */
  async opening<T>(facts: DeviceFacts, open: OpenWith<T>): Promise<SysResult<T>> {
    if (isPhysical(facts)) return await this.#openPhysical(facts, open);
    const token = facts.physicalFunction === null ? null : await this.#tokenOf(facts.physicalFunction);
    if (token === null) return await open(null);
    const opened = await open(token.standing === "SET" ? token.uuid : null);
    const { address } = facts;
    if (opened.error?.code === "EACCES") this.#deps.learnt(true, `${address} was refused without its token (EACCES)`);
    else if (opened.error === null && token.standing === "SET") this.#deps.learnt(true, `${address} was opened with its token`);
    else if (opened.error === null) this.#deps.learnt(false, `${address} was opened without its token`);
    return opened;
  }

  /** What whoever opens the device himself has to show: 16 bytes; null: nothing. */
  async forHolder(facts: DeviceFacts): Promise<Uint8Array | null> {
    // A physical function needs it while one of its virtual functions is open, and that may be at any time when it has some.
    const needed = facts.physicalFunction ?? ((facts.virtualFunctions?.addresses.length ?? 0) > 0 ? facts.address : null);
    const token = needed === null ? null : await this.#tokenOf(needed);
    return token?.standing === "SET" ? Buffer.from(token.uuid.replaceAll("-", ""), "hex") : null;
  }

  async #openPhysical<T>(facts: DeviceFacts, open: OpenWith<T>): Promise<SysResult<T>> {
    const token = await this.#tokenOf(facts.address);
    if (token === null || token.standing === "ABSENT") return await open(null);
    const opened = await open(token.uuid);
    if (opened.error === null) {
      token.standing = "SET";
      this.#deps.learnt(true, `${facts.address} was opened with a token`);
      return opened;
    }
    // Somebody has set another one.
    if (opened.error.code === "EACCES") token.standing = "UNSET";
    if (token.standing === "SET" || !MAYBE_UNKNOWN.has(opened.error.code)) return opened;
    const plain = await open(null);
    if (plain.error === null) token.standing = "ABSENT";
    return plain;
  }

  async #tokenOf(physical: Address): Promise<Token | null> {
    const bindKey = await this.#deps.vfioBinding(physical);
    return bindKey === null ? null : this.#token(physical, bindKey);
  }

  #token(physical: Address, bindKey: string): Token {
    const known = this.#tokens.get(physical);
    if (known?.bindKey === bindKey) return known;
    const token: Token = { bindKey, uuid: randomUUID(), standing: "UNSET" };
    this.#tokens.set(physical, token);
    return token;
  }
}

/** What a kernel says to a token that does not know them: EINVAL to the flag of BIND, and to a name with one a driver that does not look into it ENODEV. Also what it says of a device that is held or has gone. */
const MAYBE_UNKNOWN: ReadonlySet<string> = new Set(["EINVAL", "ENODEV"]);

/** It can have virtual functions: the kernel keeps a token for it (vfio_pci_core.c vfio_pci_vf_init). */
function isPhysical({ virtualFunctions, physicalFunction }: DeviceFacts): boolean {
  return virtualFunctions !== null && physicalFunction === null;
}
