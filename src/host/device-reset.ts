// VFIO_DEVICE_RESET with its result checked: the device goes to the next client only when the kernel said that the reset was done.

import { setTimeout as sleep } from "node:timers/promises";
import type { KnownDevice, Proof } from "../broker/ports.js";
import type { OwnedDescriptor } from "../descriptor.js";
import type { BlockingQueue } from "../native.js";
import { text } from "./failed-call.js";

/** pci_try_reset_function() answers EAGAIN when somebody else has the device's lock for a moment: asked again after each of these. */
const PAUSES_MS: readonly number[] = [10, 50, 250];

async function resetDevice(queue: BlockingQueue, device: number, address: string, supported: boolean): ReturnType<Proof["reset"]> {
  if (!supported) return { result: "UNSUPPORTED" };
  for (let attempt = 0; ; attempt++) {
    const done = await queue.reset(device, address);
    if (done.error === null) return { result: "DONE" };
    const pause = PAUSES_MS[attempt];
    if (done.error.code !== "EAGAIN" || pause === undefined) {
      return { result: "FAILED", detail: attempt === 0 ? text(done.error) : `${text(done.error)}, asked ${attempt + 1} times` };
    }
    await sleep(pause);
  }
}

/** An open device descriptor of a proof, with the queue for its ioctls. */
export interface ProvenDevice {
  readonly known: KnownDevice;
  readonly queue: BlockingQueue;
  readonly device: OwnedDescriptor;
}

/** Resets one after the other: functions of one slot lock each other, and pci_try_reset_function() does not wait for the lock. */
export async function resetAll(devices: readonly ProvenDevice[]): ReturnType<Proof["reset"]> {
  let result: "DONE" | "UNSUPPORTED" = "DONE";
  for (const { known, queue, device } of devices) {
    const { address } = known.facts;
    const one = await resetDevice(queue, device.borrow(), address, known.probe.resetSupported);
    if (one.result === "FAILED") return one;
    if (one.result === "UNSUPPORTED") result = "UNSUPPORTED";
  }
  return { result };
}
