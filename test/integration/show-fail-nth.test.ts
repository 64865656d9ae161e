// Every call that opening makes for a ticket fails once, with several errnos. Whatever the answer: the ticket is used up, the devices are free again, no descriptor is left over and
// the next ticket works.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import type { SysError } from "../../src/native.js";
import { descriptorsOf, settlesAt } from "../harness/descriptors.js";
import { LeaseBench } from "../harness/lease-bench.js";
import { OwnDaemon } from "../harness/own-daemon.js";
import { RawChannel } from "../harness/raw-channel.js";

const VF = "0000:41:01.0";
const VF2 = "0000:41:01.1";
const ERRNOS = ["EMFILE", "ENOMEM", "EBUSY", "EIO", "ENODEV"] as const;
const CONFIG =
  '[limits]\nack_ms = 60000\nfirst_call_ms = 60000\nretry_min_ms = 50\nretry_max_ms = 50\n[[policy]]\ndevice = "*"\ndelegate = true\n';

describe("[real sockets, simulated host] opening for a ticket, every call failed once", () => {
  let daemon: OwnDaemon;
  let bench: LeaseBench;
  let armed: { left: number; readonly code: string } | null = null;
  let calls = 0;
  before(async () => {
    daemon = await OwnDaemon.start({
      config: CONFIG,
      script: (operation, address): SysError | null => {
        calls += 1;
        if (armed === null) return null;
        armed.left -= 1;
        return armed.left === 0 ? { operation, errno: 5, code: armed.code, subject: address } : null;
      },
    });
    bench = await LeaseBench.at(daemon);
  });
  afterEach(() => RawChannel.closeAll());
  after(async () => {
    bench.close();
    await OwnDaemon.stopAll();
  });

  it("leaves nothing behind", async () => {
    const devices = [{ address: VF }, { address: VF2 }];
    const { channel } = await RawChannel.attached(daemon.socket);
    const show = async (): Promise<string> => {
      const { id, ticket } = await bench.reserved(VF, { devices });
      channel.show(ticket);
      const arrived = await channel.next();
      armed = null;
      if (arrived?.frame.type !== "OFFER") {
        assert.equal(arrived?.frame.type, "REFUSED");
        assert.equal(await bench.endOf(id), "OPEN_FAILED");
        channel.show(ticket);
        assert.deepEqual((await channel.next())?.frame, { type: "REFUSED", reason: "TICKET_USED" });
        return "refused";
      }
      channel.acknowledge(id, arrived.descriptors.length);
      await bench.becomes(VF, "HELD");
      channel.drop();
      assert.equal((await bench.release(id)).code, "OK");
      return "held";
    };
    assert.equal(await show(), "held");
    await bench.becomes(VF2, "FREE");
    const baseline = descriptorsOf(process.pid);
    let refused = 0;
    for (const code of ERRNOS) {
      for (let n = 1; ; n += 1) {
        calls = 0;
        armed = { left: n, code };
        const outcome = await show();
        for (const address of [VF, VF2]) await bench.becomes(address, "FREE");
        await settlesAt(process.pid, baseline);
        // The n-th call came after the offer: all of opening has been failed.
        if (outcome === "held") break;
        refused += 1;
        assert.ok(n < 100);
      }
      assert.equal(await show(), "held");
    }
    assert.ok(refused >= 2 * ERRNOS.length, `${refused} calls were failed`);
    assert.ok(calls > 0);
  });
});
