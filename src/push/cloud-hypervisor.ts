// A Cloud Hypervisor that runs already: devices of a lease in by its API socket, and out again. Every device of a VM is bound to the iommufd that the VM was started with
// (--platform iommufd_fd=), so only the device's descriptor is sent, and the lease's own iommufd is closed unused. Written from the sources of version 53 and what comes
// after it (vmm/src/api/http, vmm/src/device_manager.rs), and tested against a server of ours: its binary is not to be had where the tests run.

import { setTimeout as sleep } from "node:timers/promises";
import { PushError } from "./errors.js";
import { HttpConnection } from "./http.js";
import type { HttpAnswer } from "./http-answer.js";
import {
  ANSWER_MS,
  forVmm,
  PLUG_MS,
  type Plugged,
  type PluggedDevice,
  type PlugOptions,
  type PushedLease,
  UNPLUG_MS,
  type VmEnd,
} from "./pushed-lease.js";

const OLDEST_MAJOR = 53;
/** vm.remove-device answers before the guest has been asked, and the API has no event for the end of it. */
const LOOK_AGAIN_MS = 250;

export interface CloudHypervisorOptions {
  /** Path of its API socket (--api-socket). */
  readonly socket: string;
  /** Milliseconds for each request that takes only the VMM itself. Default 10,000. */
  readonly answerMs?: number;
}

/** One connection to one Cloud Hypervisor. It is kept for as long as devices are in: its end is the end of the VMM. */
export class CloudHypervisor {
  readonly #http: HttpConnection;
  readonly #answerMs: number;

  private constructor(http: HttpConnection, answerMs: number) {
    this.#http = http;
    this.#answerMs = answerMs;
  }

  /** Throws PushError VMM_UNREACHABLE, VMM_SILENT, VMM_PROTOCOL, VMM_TOO_OLD, VMM_REFUSED, VMM_GONE. */
  static async connect(options: CloudHypervisorOptions): Promise<CloudHypervisor> {
    const answerMs = options.answerMs ?? ANSWER_MS;
    const http = new HttpConnection(options.socket);
    try {
      const ping = await ask(http, "GET", "vmm.ping", null, answerMs);
      const version = record(json(ping.body))?.["version"];
      if (typeof version !== "string") throw new PushError("VMM_PROTOCOL", `${options.socket} answered vmm.ping without a version`);
      // What is no number is a build of somebody's own, which will say itself what it cannot.
      if (Number.parseInt(version, 10) < OLDEST_MAJOR)
        throw new PushError(
          "VMM_TOO_OLD",
          `this is Cloud Hypervisor ${version}; devices are given by descriptor from ${OLDEST_MAJOR}.0 on`,
          `run the VM with Cloud Hypervisor ${OLDEST_MAJOR}.0 or later`,
        );
      return new CloudHypervisor(http, answerMs);
    } catch (error) {
      http.close();
      throw error;
    }
  }

  /** As QemuMonitor.plug, with the VMM's own iommufd instead of the lease's. */
  async plug(lease: PushedLease, options: PlugOptions = {}): Promise<Plugged> {
    const { devices } = forVmm(lease, options.ids);
    const plugged = new CloudHypervisorPlugged(this.#http, this.#answerMs);
    try {
      for (const { address, id, descriptor } of devices) {
        await ask(this.#http, "PUT", "vm.add-device", { id }, options.plugMs ?? PLUG_MS, [descriptor.borrow()]);
        plugged.devices.push({ address, id });
      }
      await lease.closeDescriptors();
      return plugged;
    } catch (error) {
      await plugged.unplug().catch(() => undefined);
      throw error;
    }
  }

  /** Ends the connection; what is plugged in stays in the VM. Twice is harmless. */
  close(): void {
    this.#http.close();
  }
}

class CloudHypervisorPlugged implements Plugged {
  readonly devices: PluggedDevice[] = [];
  readonly gone: Promise<VmEnd>;
  readonly #http: HttpConnection;
  readonly #answerMs: number;
  #leaving = false;

  constructor(http: HttpConnection, answerMs: number) {
    this.#http = http;
    this.#answerMs = answerMs;
    this.gone = new Promise((resolve) => {
      void http.closed.then(() => {
        if (!this.#leaving) resolve("VMM_GONE");
      });
    });
  }

  async unplug({ timeoutMs = UNPLUG_MS }: { readonly timeoutMs?: number } = {}): Promise<void> {
    this.#leaving = true;
    for (const { id } of [...this.devices].reverse()) {
      const answer = await this.#http.ask(request("PUT", "vm.remove-device", { id }, this.#answerMs));
      // Somebody else has taken it out.
      if (answer.status !== 404) accepted("vm.remove-device", answer);
      await this.#untilOut(id, performance.now() + timeoutMs);
    }
  }

  /** The device leaves the tree when the guest has ejected it; right after that its last descriptor is closed. */
  async #untilOut(id: string, deadline: number): Promise<void> {
    for (;;) {
      const { body } = await ask(this.#http, "GET", "vm.info", null, this.#answerMs);
      const tree = record(record(json(body))?.["device_tree"]);
      if (tree === null || !(id in tree)) return;
      if (performance.now() >= deadline)
        throw new PushError(
          "GUEST_SILENT",
          `the guest has not let go of ${id} in time`,
          "the guest's system must be up, and handle hot-unplug; or end the VM",
        );
      await sleep(LOOK_AGAIN_MS);
    }
  }
}

type Command = "vmm.ping" | "vm.info" | "vm.add-device" | "vm.remove-device";

function request(method: "GET" | "PUT", command: Command, body: unknown, timeoutMs: number, descriptors: readonly number[] = []) {
  return { method, path: `/api/v1/${command}`, body, timeoutMs, descriptors };
}

async function ask(
  http: HttpConnection,
  method: "GET" | "PUT",
  command: Command,
  body: unknown,
  timeoutMs: number,
  descriptors: readonly number[] = [],
): Promise<HttpAnswer> {
  return accepted(command, await http.ask(request(method, command, body, timeoutMs, descriptors)));
}

function accepted(command: Command, answer: HttpAnswer): HttpAnswer {
  if (answer.status === 200 || answer.status === 204) return answer;
  // The body is a list of messages, from the outermost to the cause.
  const chain = json(answer.body);
  const words = Array.isArray(chain) && chain.length > 0 ? chain.map(String).join(": ") : answer.body;
  throw new PushError(
    "VMM_REFUSED",
    `Cloud Hypervisor refused ${command} with ${answer.status}${words === "" ? "" : `: ${words}`}`,
    words.includes("iommufd_fd") ? "start the VM with --platform iommufd_fd=N: only then it takes devices by their descriptors" : null,
  );
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function record(value: unknown): Readonly<Record<string, unknown>> | null {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Readonly<Record<string, unknown>>) : null;
}
